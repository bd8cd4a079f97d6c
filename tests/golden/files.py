"""Data files as pyarrow writes them, and what it reads of them.

Run: python tests/golden/files.py   (pyarrow; versions in CONTRIBUTING.md)
Writes tests/golden/files/*.parquet, each with its rows as JSON.
"""

import datetime
import decimal
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent / "files"
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def nested():
    talk = lambda *texts: [
        {"role": role, "content": text} for role, text in zip(["user", "assistant"], texts)
    ]
    columns = {
        "prompt": pa.array([talk("a?"), [], None, talk(None)], MESSAGES),
        "chosen": pa.array([talk("a?", "ja – 日本"), talk("b"), talk("c", "d"), [None]], MESSAGES),
        "words": pa.array([["x", None, ""], [], None, ["y"]], pa.list_(pa.string())),
        "deep": pa.array([[["x"], []], [None], [], [["y", "z"]]], pa.list_(pa.list_(pa.string()))),
        "about": pa.array(
            [{"tags": ["t"], "n": 1}, {"tags": None, "n": None}, None, {"tags": [], "n": 4}],
            pa.struct([("tags", pa.list_(pa.string())), ("n", pa.int8())]),
        ),
        "scores": pa.array(
            [[("a", 0.5)], [], None, [("b", None), ("c", 2.0)]], pa.map_(pa.string(), pa.float64())
        ),
        "large": pa.array([["x"], [], None, ["y"]], pa.large_list(pa.large_string())),
    }
    return pa.table(columns)


def texts():
    words = ["one", "zwei", None, "one"]
    columns = {
        "string": pa.array(words),
        "large": pa.array(words, pa.large_string()),
        "view": pa.array(words, pa.string_view()),
        "dictionary": pa.array(words).dictionary_encode(),
        "binary": pa.array([word and word.encode() for word in words], pa.binary()),
        "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1), None]),
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-0.05"), None]),
        "half": pa.array([0.5, None, 1.0, -2.0], pa.float16()),
        "unsigned": pa.array([2**64 - 1, None, 0, 1], pa.uint64()),
    }
    return pa.table(columns)


def prompts():
    columns = {
        "prompt": pa.array(["a", "b", "c"]),
        "messages": pa.array([[{"role": "user", "content": "a"}], [], None], MESSAGES),
        "scores": pa.array([[("a", 0.5)], None, [("b", None)]], pa.map_(pa.string(), pa.float64())),
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-0.05")]),
        "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1)]),
    }
    return pa.table(columns)


def plain(value):
    """A row as JSON has it: maps as objects, what JSON lacks as text."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (datetime.date, decimal.Decimal)):
        return str(value)
    return value


def write(name, table, **options):
    pq.write_table(table, OUT / f"{name}.parquet", **options)
    rows = [plain(row) for row in pq.read_table(OUT / f"{name}.parquet").to_pylist()]
    if "scores" in table.column_names:  # an empty map is an empty list to Python
        rows = [{**row, "scores": {} if row["scores"] == [] else row["scores"]} for row in rows]
    (OUT / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


OUT.mkdir(exist_ok=True)
write("nested", nested(), row_group_size=3)
write("nested-pages", nested(), data_page_version="2.0", data_page_size=1, use_dictionary=False)
write("texts", texts())
write("prompts", prompts(), row_group_size=2, compression="gzip")
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    write(f"codec-{codec}", nested().select(["prompt", "words"]), compression=codec)
