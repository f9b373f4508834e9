"""Wrong inputs: URLs of servers, as options, as settings, and in files."""

from row import Row

FORM = "write http://HOST:PORT, for example http://localhost:8000"
WRONG = {
    "http://[::1": "Invalid IPv6 URL",
    "http://[zz]:80": "does not appear to be an IPv4 or IPv6 address",
    "http://host:abc": "Port could not be cast",
    "http://host:99999": "Port out of range",
    "http://host:-1": "Port",
    "http://host:0": "port 0 serves nothing",
    "host:8000": "does not begin with http:// or https://",
    "localhost": "does not begin with http:// or https://",
    "ftp://host": "does not begin with http:// or https://",
    "http:/host": "does not begin with http:// or https://",
    "": "does not begin with http:// or https://",
    "http://": "names no host",
    "http:///v1": "names no host",
    "http://" + "a" * 300: "its host has 300 characters, and 253 are the most",
    "http://" + "b" * 64 + ".de": "no name that a network knows",
    "http://a..b": "no name that a network knows",
    "http://-a": "no name that a network knows",
    "http://1.2.3": "no IP address",
    "http://1.2.3.400:80": "no IP address",
    "http://a b": "a space or a control code",
    "http://host/v1#top": "a part after #",
}
"""What is typed, and what the message says is wrong with it."""

TEACHER = ("--suite", "quick", "--dry-run", "--set", "teacher_engine=vllm")
WRITER = ("--suite", "quick", "--dry-run", "--engine", "vllm")
FOLDER = ("--tasks", "rule_math", "--engine", "vllm")
TOML = 'methods = ["opcd"]\ntasks = ["rule_math"]\nengine = "vllm"\nvllm_url = "h:80"\n'

ROWS = [
    *(
        Row(("run", "--teacher-url", url, *TEACHER), ("teacher_url", says, FORM))
        for url, says in WRONG.items()
    ),
    *(
        Row(("run", "--vllm-url", url, *WRITER), ("vllm_url", says, FORM))
        for url, says in list(WRONG.items())[::3]
    ),
    *(
        Row(("extract", "--vllm-url", url, "--out", "o", *FOLDER), ("vllm_url", says, FORM))
        for url, says in list(WRONG.items())[1::5]
    ),
    *(
        Row(("select", "--vllm-url", url, "--contexts", "c", *FOLDER), ("vllm_url", says, FORM))
        for url, says in list(WRONG.items())[2::5]
    ),
    Row("run --suite mine.toml --dry-run", ("vllm_url", FORM), {"mine.toml": TOML}),
    Row(("run", "--vllm-url", "http://me:secret@a..b", *WRITER), ("vllm_url", "http://***@a..b")),
]
