"""One thread for all that computes, here and in the processes that tests start.

The networks of tests are too small for more, and threads that wait for each other keep the processor from those that
work: on a busy machine of two cores, the same test takes thirty times as long.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and NumPy are imported
