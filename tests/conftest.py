"""What all tests share."""

import os
import signal

from hypothesis import settings

# CI looks at the same examples every time; locally new ones are tried, and what they find becomes an @example.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

# A job in the background starts with SIGINT ignored, one under nohup with SIGHUP, and what is ignored stays so, in the
# processes that tests start, too (see training.interrupt).
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
