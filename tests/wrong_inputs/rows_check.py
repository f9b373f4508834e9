"""Wrong inputs of `opcd-bench check`; those whose code ends its process lie in rows_plugins."""

import os

from row import Row
from rows_plugins import METHOD

ROWS = [
    Row("check", ("Missing argument",)),
    Row("check nosuch.py", ("nosuch.py", "there is no such file")),
    Row("check nosuch", ("there is no such file",)),
    Row("check .", ("is no Python file",)),
    Row("check mine.txt", ("is no Python file",), {"mine.txt": METHOD}),
    Row("check mine.py", ("is no Python file",), {"mine.py": lambda path: path.mkdir()}),
    Row("check mine.py", ("is no Python file",), {"mine.py": os.mkfifo}),
    Row("check mine.py --time-limit 0", ("--time-limit", "greater")),
    Row("check mine.py --time-limit soon", ("--time-limit", "must be a number")),
    Row("check mine.py other.py", ("unexpected extra argument",)),
    Row("check mine.py --jsn", ("No such option", "--json")),
]
