from tests.toys import X
def test_x(): assert X == 1
