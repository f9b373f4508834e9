"""Wrong GGUF files, wheels, folders and model folders."""

import io
import zipfile

from row import Row


def archive(**files):
    """A zip archive as bytes, the same at any hour: a row's name carries a hash of its files."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(name.replace("_", ".")), text)
    return held.getvalue()


RUN = "run --methods opcd --tasks rule_math --dry-run --model a/b"

ROWS = [
    Row("import-gguf", ("Missing argument", "FILE")),
    Row("import-gguf none.gguf out", ("none.gguf does not exist", "GGUF")),
    Row("import-gguf . out", ("is a folder",)),
    Row("import-gguf x.gguf out", ("is no GGUF file",), {"x.gguf": "hello"}),
    Row("import-gguf x.gguf out", ("is no GGUF file",), {"x.gguf": ""}),
    Row("import-gguf x.whl out", ("no .gguf file",), {"x.whl": archive(a_txt="hello")}),
    Row("import-gguf x.whl out", ("a.gguf, b.gguf",), {"x.whl": archive(a_gguf="", b_gguf="")}),
    Row("import-gguf x.whl out", ("damaged",), {"x.whl": archive(a_gguf="GGUF")[:40]}),
    Row("import-gguf x.whl out", ("a.gguf in x.whl is no GGUF",), {"x.whl": archive(a_gguf="x")}),
    Row("import-gguf x.gguf out --sha256 00", ("damaged", "SHA-256"), {"x.gguf": "GGUF"}),
    Row("import-gguf x.gguf out --dtype int8", ("--dtype", "float32"), {"x.gguf": "GGUF"}),
    Row(
        "import-gguf x.gguf out",
        ("out exists", "Move it away"),
        {"x.gguf": "GGUF", "out/a.txt": "mine"},
    ),
    Row("import-gguf x.gguf out", ("out exists",), {"x.gguf": "GGUF", "out": "a file"}),
    Row(f"{RUN} --model-dir none", ("there is no folder none", "--model-dir")),
    Row(f"{RUN} --model-dir x", ("there is no folder x",), {"x": "a file"}),
    Row(f"{RUN} --model-dir m", ("no *.safetensors",), {"m/a/b/config.json": "{}"}),
    Row(
        f"{RUN} --model-dir m",
        ("model.safetensors", "damaged"),
        {"m/a/b/model.safetensors": "hello, these are no weights"},
    ),
    Row(
        "run --retention drift --dry-run --tasks rule_math --methods opcd",
        ("drift", "add one that asks for responses"),
    ),
    Row(
        "run --retention drift,loss_gsm8k --dry-run --tasks rule_math --methods opcd",
        ("drift", "ifeval_micro"),
    ),
    Row("doctor --model-dir none", ("there is no folder none",)),
    Row(
        "run --suite quick --model adapter",
        ("holds an adapter", "merge_and_unload()"),
        {"adapter/adapter_config.json": "{}", "adapter/adapter_model.safetensors": "x"},
    ),
    Row("run --suite quick --model micro-smal", ("Did you mean 'micro-small'?", "with its owner")),
    Row("run --suite quick --model micro_small --dry-run", ("Did you mean 'micro-small'?",)),
    Row("run --suite quick --teacher-model micr --dry-run", ("Did you mean 'micro'?",)),
    Row(
        "estimate --suite quick --entrant mine=micro-smal",
        ("--entrant mine=micro-smal: ", "Did you mean 'micro-small'?"),
    ),
    Row(
        "run --suite quick --entrant mine=./adapter",
        ("holds an adapter", "merge_and_unload()"),
        {"adapter/adapter_config.json": "{}", "adapter/adapter_model.safetensors": "x"},
    ),
]
