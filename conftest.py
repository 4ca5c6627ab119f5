"""What holds wherever the tests run: one thread for all that computes, and a Ctrl-C that is heard.

The networks of tests are too small for more threads, and those that wait for each other keep the processor from those
that work: on a busy machine of two cores, the same test takes thirty times as long.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and NumPy are imported
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore it
