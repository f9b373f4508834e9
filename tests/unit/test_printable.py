"""Text that others wrote: no control code and no credential of it is shown or kept."""

import csv
import io
import json
import pickle

import pytest

from opcd_bench.config.suite import make_suite
from opcd_bench.errors import CellFailed, ModelError
from opcd_bench.printable import (
    csv_text,
    is_secret,
    json_visible,
    one_line,
    printable,
    url_without_secrets,
    visible,
    without_secrets,
)

LEAST = {"methods": ["opcd"], "tasks": ["rule_math"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\x00b\x07c", "a\\x00b\\x07c"),
        ("csi \x9b31m", "csi \\x9b31m"),
        ("left \u202eright", "left \\u202eright"),
        ("two\u2028lines", "two\\u2028lines"),
        ("over\rwritten", "over\\x0dwritten"),
        ("tab\tand\nline, größer, 日本語 – …", "tab\tand\nline, größer, 日本語 – …"),
    ],
)
def test_control_codes_are_written_out_and_all_else_stays(text, shown):
    assert visible(text) == shown


def test_a_single_line_has_no_end_of_line_and_no_tab():
    assert one_line("a\n\tb \r\n c\x1b") == "a b c\\x1b"


def test_json_says_the_same_without_a_raw_control_code():
    value = {"reply": "\x1b \x9b31m \u202e \x7f größer"}
    text = json_visible(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert visible(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://anna:s3cret@host:8000/v1", "http://***@host:8000/v1"),
        ("https://s3cret@host/x", "https://***@host/x"),
        ("http://anna:s3@cret@host", "http://***@host"),
        ("http://host/v1?api_key=s3cret&n=4", "http://host/v1?api_key=***&n=4"),
        ("http://host/v1?n=4&access_token=s3cret#top", "http://host/v1?n=4&access_token=***#top"),
        ("http://host?X-Amz-Signature=s3cret", "http://host?X-Amz-Signature=***"),
        ("http://host/@user?max_tokens_a=4", "http://host/@user?max_tokens_a=4"),
    ],
)
def test_a_url_loses_its_credentials_in_any_text(url, shown):
    assert without_secrets(f"vLLM at {url} failed") == f"vLLM at {shown} failed"
    assert url_without_secrets(url) == shown


def test_a_servers_url_without_its_scheme_loses_them_too():
    assert url_without_secrets("anna:s3cret@host:8000") == "***@host:8000"


def test_an_error_as_it_reads_holds_neither():
    for kind in (ModelError, CellFailed):
        assert str(kind("\x1b[0m http://a:b@host\nsecond")) == "\\x1b[0m http://***@host\nsecond"
    assert printable("plain") == "plain"


def test_what_a_suite_stores_and_prints_holds_no_credentials_and_what_it_uses_does():
    url = "http://anna:s3cret@host:8000"
    own = {"engine": "vllm", "teacher_engine": "vllm", "vllm_url": url, "teacher_url": url}
    options = {"hf_token": "s3cret", "max_num_batched_tokens": 5, "max_num_seqs": 3}
    suite = make_suite({**LEAST, **own, "vllm_options": options}, "here")
    assert "s3cret" not in json.dumps(suite.model_dump(mode="json"))
    assert suite.model_dump(mode="json")["vllm_options"]["max_num_batched_tokens"] == 5
    assert suite.vllm_url == suite.for_task("rule_math").teacher_url == url
    assert suite.model_dump()["vllm_url"] == pickle.loads(pickle.dumps(suite)).vllm_url == url
    with pytest.raises(Exception, match="vllm_url") as refused:
        make_suite({**LEAST, **own, "engine": "hf"}, "here")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("key", ["token", "hf_token", "api_key", "password", "client-secret"])
def test_what_a_credential_is_called(key):
    assert is_secret(key) and not is_secret(f"{key}_length")


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "'quoted", "=", "-", "-5 points"]
)
def test_text_that_a_spreadsheet_would_run_is_text_and_comes_back(text):
    cell = csv_text(text)
    assert cell == f"'{text}"
    stream = io.StringIO()
    csv.writer(stream).writerow([cell])
    (read,) = next(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert (read[1:] if read.startswith("'") else read) == text


@pytest.mark.parametrize("text", ["", "a", "-5", "+0.5", "-1e-05", "-inf", "rule_math", "a=b"])
def test_numbers_and_other_text_stay_as_they_are(text):
    assert csv_text(text) == text
