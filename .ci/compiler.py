"""Whether C can be compiled for this Python: if not, the status is 1, and what is missing is said."""

import shutil
import sys
import sysconfig
from pathlib import Path

compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
headers = Path(sysconfig.get_path("include"), "Python.h")
missing = [
    *([] if shutil.which(compiler) else [f"C compiler ({compiler})"]),
    *([] if headers.exists() else [f"Python header ({headers})"]),
]
print(", no ".join(missing))
sys.exit(bool(missing))
