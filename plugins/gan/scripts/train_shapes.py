"""Train the bundled model gan-shapes on 24,000 shapes that are drawn here, and note its hashes. About 6 CPU minutes.

python plugins/gan/scripts/train_shapes.py
python plugins/gan/scripts/train_shapes.py --seed 1 --out FOLDER    # another seed, for benchmarks/shapes_quality.py
"""

from __future__ import annotations

import sys
from pathlib import Path

PLUGIN = Path(__file__).parents[1]
SETTINGS = {"steps": 6400, "gamma": 0.3, "ema": 0.999, "precision": "bf16", "store": "float16"}
ABOUT = """
## Origin of the data

24,000 pictures, 32 x 32, of a disc, a square, a triangle or a ring in two colors, of various places, sizes and angles,
drawn by `benchmarks/shapes.py` from a seed. Weights are stored in half precision. The model is under Apache-2.0. To
make it again:

```
python plugins/gan/scripts/train_shapes.py
```
"""

if __name__ == "__main__":
    sys.path.insert(0, str(PLUGIN.parents[1] / "benchmarks"))
    from bundled import arguments, draw_grid, home, train_bundled
    from shapes import KINDS, shapes

    asked = arguments(PLUGIN, "gan-shapes").parse_args()
    train_bundled(PLUGIN, asked, "gan", {"shapes": shapes()[0].table}, "shape", SETTINGS, ABOUT)
    if asked.out == home(PLUGIN, "gan-shapes"):
        draw_grid(asked.out, {"shape": [kind for kind in KINDS for _ in range(25)]}, PLUGIN / "shapes.png")
