"""Writes the same preference pairs in the layouts in which data sets lie about, and says what w2s must make of each.

    python tests/judge/data_layouts.py FOLDER

FOLDER gets a file for each layout and expected.json: for each file the pairs where they must be read, or words of the one error.
Where the datasets library reads a layout, its rows are held against the pairs here.
"""
import bz2
import csv
import gzip
import json
import lzma
import os
import sys
import zipfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import datasets
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet

FOLDER = Path(sys.argv[1])
ROWS = [
    {"prompt": f'q{n}, "é"', "chosen": f"ja; {n}|\n日", "rejected": f"no\t{n}", "chosen_complete": n % 2 == 0}
    for n in range(6)
]
TABLE = datasets.Dataset.from_list(ROWS)
FRAME = pandas.DataFrame(ROWS)
expected = {}

datasets.disable_progress_bars()


def read(name, how):
    """What datasets makes of the file; `how` is its builder and what must be said to it."""
    builder, options = how
    split = datasets.load_dataset(builder, data_files=str(FOLDER / name), split="train", cache_dir=str(FOLDER / ".cache"), **options)
    return [{key: row[key] for key in ROWS[0]} for row in split]


def layout(name, content, how=None):
    """A file that holds the pairs."""
    if content is not None:
        (FOLDER / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if how:
        assert read(name, how) == ROWS, f"{name}: {read(name, how)}"
    expected[name] = ROWS


def foreign(name, content, words):
    """A file that must be refused with these words."""
    if content is not None:
        (FOLDER / name).write_bytes(content)
    expected[name] = words


def packed(content, codec):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, codec) as stream:
        stream.write(content.encode())
    return sink.getvalue().to_pybytes()


def table(**options):
    return FRAME.to_csv(index=False, **options)


JSON, CSV, PARQUET = ("json", {}), ("csv", {}), ("parquet", {})

TABLE.to_json(FOLDER / "to-json.jsonl")
lines = (FOLDER / "to-json.jsonl").read_text()
array = json.dumps(ROWS)
layout("to-json.jsonl", None, JSON)
layout("lines.json", lines, JSON)
layout("lines.ndjson", lines, JSON)
layout("mark.jsonl", "\ufeff" + lines, JSON)
layout("crlf.jsonl", lines.replace("\n", "\r\n"), JSON)
layout("cr.jsonl", lines.replace("\n", "\r"))
layout("blank.jsonl", "\n" + lines.replace("\n", "\n\n"), JSON)
layout("array.json", array, JSON)
layout("array.jsonl", array, JSON)
layout("pretty.json", json.dumps(ROWS, indent=2, ensure_ascii=False), JSON)
layout("field.json", json.dumps({"version": "1", "data": ROWS}), ("json", {"field": "data"}))
layout("lines.jsonl.gz", gzip.compress(lines.encode()), JSON)
layout("array.json.gz", gzip.compress(array.encode()), JSON)
layout("plain-gzip.jsonl", gzip.compress(lines.encode()), JSON)
layout("members.jsonl.gz", b"".join(gzip.compress(line.encode()) for line in lines.splitlines(True)) + bytes(512), JSON)
layout("lines.jsonl.zst", packed(lines, "zstd"))
layout("plain-zstd.json", packed(array, "zstd"))

TABLE.to_csv(FOLDER / "to-csv.csv")
layout("to-csv.csv", None, CSV)
layout("index.csv", FRAME.to_csv(), CSV)
layout("excel.csv", "\ufeff" + table(lineterminator="\r\n"), CSV)
# Without the quotes pandas leaves a line break in a field bare where lines end in another.
layout("cr.csv", table(lineterminator="\r", quoting=csv.QUOTE_ALL))
layout("quoted.csv", table(quoting=csv.QUOTE_ALL), CSV)
layout("semicolon.csv", table(sep=";"), ("csv", {"sep": ";"}))
layout("semicolon-index.csv", FRAME.to_csv(sep=";"), ("csv", {"sep": ";"}))
layout("tab.tsv", table(sep="\t"), ("csv", {"sep": "\t"}))
layout("tab.csv", table(sep="\t"), ("csv", {"sep": "\t"}))
layout("bar.csv", table(sep="|"), ("csv", {"sep": "|"}))
layout("packed.csv.gz", gzip.compress(table().encode()), CSV)
layout("packed.csv.zst", packed(table(), "zstd"))
numbers = FRAME.assign(chosen_complete=FRAME["chosen_complete"].astype(float))
layout("floats.csv", numbers.to_csv(index=False), CSV)

TABLE.to_parquet(FOLDER / "to-parquet.parquet")
layout("to-parquet.parquet", None, PARQUET)
FRAME.to_parquet(FOLDER / "pandas.parquet")
layout("pandas.parquet", None, PARQUET)
TABLE.to_parquet(FOLDER / "parquet.json")
layout("parquet.json", None, PARQUET)
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    pyarrow.parquet.write_table(TABLE.data.table, FOLDER / f"{codec}.parquet", compression=codec)
    layout(f"{codec}.parquet", None, PARQUET)
texts = [pyarrow.string_view(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), pyarrow.bool_()]
columns = {name: pyarrow.array([row[name] for row in ROWS]).cast(kind) for name, kind in zip(ROWS[0], texts)}
nested = pyarrow.array([[{"image": bytes([255]), "size": [1, 2]}]] * len(ROWS))
pyarrow.parquet.write_table(pyarrow.table({"image": nested, **columns}), FOLDER / "kinds.parquet")
layout("kinds.parquet", None, PARQUET)

foreign("utf-16.csv", table().encode("utf-16"), "the file is UTF-16 text")
foreign("lines.jsonl.bz2", bz2.compress(lines.encode()), "the file is a bzip2 file")
foreign("lines.jsonl.xz", lzma.compress(lines.encode()), "the file is an xz file")
foreign("lines.jsonl.lz4", packed(lines, "lz4"), "the file is an lz4 file")
with zipfile.ZipFile(FOLDER / "lines.jsonl.zip", "w") as archive:
    archive.writestr("lines.jsonl", lines)
foreign("lines.jsonl.zip", None, "the file is a zip archive")
pyarrow.feather.write_feather(FRAME, FOLDER / "frame.arrow", compression="uncompressed")
foreign("frame.arrow", None, "the file is an Arrow file")
TABLE.save_to_disk(FOLDER / "saved")
foreign("stream.arrow", (FOLDER / "saved/data-00000-of-00001.arrow").read_bytes(), "the file is an Arrow stream")
foreign("cut.jsonl", lines.encode()[:-40], "cut.jsonl:6: a half-written last line")
foreign("cut.json", array.encode()[:-40], "cut.json:1: the file may be cut short")
foreign("cut.jsonl.gz", gzip.compress(lines.encode())[:-20], "the gzip data is damaged or cut short")
foreign("cut.csv", table().rsplit("日", 1)[0].encode(), "cut.csv:12: not valid CSV: the row has a quoted field that is not closed")
foreign("cut.parquet", (FOLDER / "to-parquet.parquet").read_bytes()[:-40], "not a readable Parquet file")
foreign("columns.json", FRAME.to_json().encode(), "`prompt` must be a string")

(FOLDER / "expected.json").write_text(json.dumps({"files": expected}))
print(f"{len(expected)} layouts")
