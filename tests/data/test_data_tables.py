"""Tables are read as the user wrote them (RELIABILITY B6, rows 51 to 61), and paths stay inside (B5)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import encoded, put, scene
from pyarrow import parquet

from headstart.base.errors import DataError, Refused
from headstart.data.open import open_dataset

JPEG = encoded(scene(0, (20, 20)))
LABELS = [
    "NA",
    "None",
    "null",
    "nan",
    "N/A",
    "no",
    "007",
    "1e5",
    "TRUE",
    "2024-01-01",
    "#N/A",
    "-",
    "NULL",
    "1_000",
    "é猫",
]


def table(folder: Path, text: str | bytes, name: str = "data.csv", files: int = 3) -> Path:
    for i in range(files):
        put(folder / f"{i}.jpg", JPEG)
    return put(folder / name, text.encode() if isinstance(text, str) else text)


def problem(path: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(path, **options)
    return str(caught.value)


# -------------------------------------------------------------------------------- B6: labels as they were written


def rows_of(labels: list[str], reason_to_repeat: int = 3) -> list[tuple[str, str]]:
    return [(f"{i % 3}.jpg", label) for i, label in enumerate(labels * reason_to_repeat)]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "pandas", "polars", "pyarrow"])
def test_every_label_survives_as_the_string_it_was(tmp_path: Path, kind: str) -> None:
    rows = rows_of(LABELS)
    paths, labels = [str(tmp_path / p) for p, _ in rows], [label for _, label in rows]
    table(tmp_path, "")
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        text = "\n".join([f"path{mark}label", *(f"{p}{mark}{label}" for p, label in rows)])
        source: object = table(tmp_path, text, f"data.{kind}")
    elif kind == "jsonl":
        source = table(tmp_path, "\n".join(json.dumps({"path": p, "label": label}) for p, label in rows), "data.jsonl")
    elif kind == "parquet":
        parquet.write_table(pa.table({"path": [p for p, _ in rows], "label": labels}), tmp_path / "data.parquet")
        source = tmp_path / "data.parquet"
    else:
        made = {"path": paths, "label": labels}
        source = {"pandas": pandas.DataFrame, "polars": polars.DataFrame, "pyarrow": pa.table}[kind](made)
    dataset = open_dataset(source)
    assert dataset.targets == labels
    assert dataset.target_kind == "single-label"
    assert all(type(t) is str for t in dataset.targets)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r|")), min_size=2, max_size=9
    )
)
def test_any_text_that_a_csv_writer_writes_is_read_back(tmp_path: Path, labels: list[str]) -> None:
    import csv

    labels = [label if label.strip() else f"x{label}" for label in labels]
    path = table(tmp_path, "")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"{i % 3}.jpg", label] for i, label in enumerate(labels))
    assert open_dataset(path, task="single-label").targets == labels


def test_numbers_and_truths_in_json_stay_as_written(tmp_path: Path) -> None:
    lines = ['{"path": "0.jpg", "label": 1e5}', '{"path": "1.jpg", "label": 7}', '{"path": "2.jpg", "label": true}']
    assert open_dataset(table(tmp_path, "\n".join(lines), "d.jsonl")).targets == ["1e5", "7", "true"]


def test_a_one_row_difference_in_meta_is_kept(tmp_path: Path) -> None:
    path = table(tmp_path, "id,path,label,site\n01,0.jpg,a,NA\n02,1.jpg,b,\n03,2.jpg,a,007\n")
    dataset = open_dataset(path)
    assert dataset.meta == {"id": ["01", "02", "03"], "site": ["NA", "", "007"]}
    assert dataset[0].meta["site"] == "NA"


# ------------------------------------------------------------------------------------------------------------ encodings

TEXT = "path,label\n0.jpg,café\n1.jpg,naïve\n2.jpg,Übermaß\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_are_told(tmp_path: Path, encoding: str) -> None:
    assert open_dataset(table(tmp_path, TEXT.encode(encoding))).targets == ["café", "naïve", "Übermaß"]


def test_utf16_of_both_byte_orders_is_told(tmp_path: Path) -> None:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        assert open_dataset(table(tmp_path, mark + TEXT.encode(encoding))).targets[0] == "café"


@pytest.mark.parametrize(
    ("text", "encoding", "where"),
    [
        (TEXT, "latin-1", "byte 0xE9 at line 2, column 10"),
        ("path,label\n0.jpg,猫\n1.jpg,狗狗\n2.jpg,鸟\n", "gbk", "byte 0xB9 at line 3, column 7"),
        ("path,label\n0.jpg,ねこ\n1.jpg,いぬ\n2.jpg,とり\n", "shift_jis", "byte 0x82 at line 2, column 7"),
    ],
)
def test_other_encodings_are_refused_by_byte_and_accepted_by_name(
    tmp_path: Path, text: str, encoding: str, where: str
) -> None:
    path = table(tmp_path, text.encode(encoding))
    said = problem(path)
    assert said.startswith("TB54 data.csv is not UTF-8")
    assert where in said
    assert f"--encoding {encoding}" in said
    dataset = open_dataset(path, encoding=encoding)
    assert dataset.targets == [line.split(",")[1] for line in text.splitlines()[1:]]


def test_utf16_without_a_mark_is_recognised(tmp_path: Path) -> None:
    path = table(tmp_path, TEXT.encode("utf-16-le"))
    assert "--encoding utf-16-le" in problem(path)
    assert open_dataset(path, encoding="utf-16-le").targets[0] == "café"


def test_an_unknown_or_wrong_encoding_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, TEXT)
    assert "no encoding 'utf-9'" in problem(path, encoding="utf-9")
    assert "TB54 data.csv is not ascii (byte 0xC3 at line 2, column 10)" in problem(path, encoding="ascii")


# -------------------------------------------------------------------------------- what cannot be read, by line


def test_ragged_rows_are_named_by_line(tmp_path: Path) -> None:
    text = "path,label\n0.jpg,a\n1.jpg,b,c\n2.jpg\n0.jpg,a\n"
    assert problem(table(tmp_path, text)).startswith(
        "TB55 data.csv: line 3 has 3 fields, header has 2, line 4 has 1 fields, header has 2."
    )


def test_lines_are_counted_through_quoted_line_breaks(tmp_path: Path) -> None:
    text = 'path,label\n0.jpg,"a\nb\nc"\n1.jpg,b,c\n'
    assert "line 5 has 3 fields" in problem(table(tmp_path, text))
    text = 'path,label\n0.jpg,"a\nb\nc"\n1.jpg,\n2.jpg,x\n'
    assert "(lines 5)" in problem(table(tmp_path, text))


def test_line_breaks_inside_quotes_survive_in_a_table_of_many_blocks(tmp_path: Path) -> None:
    labels = ["one\nline", "another\n\nline"] * 60_000
    text = "path,label\n" + "".join(f'{i % 3}.jpg,"{label}"\n' for i, label in enumerate(labels))
    assert len(text) > 2 * 2**20  # of one MiB each
    assert open_dataset(table(tmp_path, text)).targets == labels


def test_an_open_quote_is_named(tmp_path: Path) -> None:
    said = problem(table(tmp_path, 'path,label,note\n0.jpg,a,x\n1.jpg,"b,y\n2.jpg,c,z\n'))
    assert "TB55" in said
    assert "line 3" in said
    assert "never closed" in said


def test_nul_bytes_are_named(tmp_path: Path) -> None:
    assert "TB55 data.csv: NUL byte at line 3, column 7" in problem(table(tmp_path, "path,label\n0.jpg,a\n1.jpg,\0\n"))


def test_duplicate_columns_are_named(tmp_path: Path) -> None:
    assert "TB56 data.csv, line 1: column 'price' appears twice" in problem(
        table(tmp_path, "path,price,label,price\n0.jpg,1,a,2\n")
    )
    frame = pandas.DataFrame([["a.jpg", "x", "y"]], columns=["path", "label", "label"])
    assert "TB56" in problem(frame)
    assert "TB56" in problem(pa.table([["a.jpg"], ["x"], ["y"]], names=["path", "label", "label"]))


def test_a_table_without_header_is_recognised(tmp_path: Path) -> None:
    assert "TB62 data.csv: the first line looks like data" in problem(table(tmp_path, "0.jpg,cat\n1.jpg,dog\n"))


def test_empty_tables_are_named(tmp_path: Path) -> None:
    assert "TB62 data.csv is empty" in problem(table(tmp_path, ""))
    assert "DA32" in problem(table(tmp_path, "path,label\n"))
    assert "TB62 d.jsonl is empty" in problem(table(tmp_path, "\n", "d.jsonl"))


def test_bad_json_lines_are_named(tmp_path: Path) -> None:
    lines = [
        '{"path": "0.jpg", "label": "a"}',
        '{"path": "1.jpg", "label": ',
        "[1]",
        '{"path": "1.jpg", "path": "2.jpg"}',
        '{"path": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ]
    said = problem(table(tmp_path, "\n".join(lines), "d.jsonl"))
    assert all(word in said for word in ("line 2", "line 3: not a JSON object", "line 4: key 'path' appears twice"))
    assert "line 5: nested too deeply" in said


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    parquet.write_table(
        pa.table({"path": ["0.jpg"] * 5000, "label": [str(i % 7) for i in range(5000)]}), tmp_path / "d.parquet"
    )
    data = (tmp_path / "d.parquet").read_bytes()
    assert "TB60 cut.parquet is not a readable Parquet file" in problem(put(tmp_path / "cut.parquet", data[:-20]))
    broken = bytearray(data)
    broken[4:60] = b"\xff" * 56
    assert "TB60 broken.parquet: row group 0 unreadable" in problem(put(tmp_path / "broken.parquet", bytes(broken)))


# -------------------------------------------------------------------------------- which column is which


def test_columns_are_found_by_name_and_by_content(tmp_path: Path) -> None:
    for header in ("file_name,class", "Image,Label", "weight,foto,category"):
        names = header.split(",")
        row = {0: "0.jpg,a", 1: "1.jpg,b"}
        text = header + "\n" + "\n".join((f"{i}5," if len(names) == 3 else "") + r for i, r in row.items())
        dataset = open_dataset(table(tmp_path, text))
        assert dataset.ids == ["0.jpg", "1.jpg"]
        assert dataset.targets == ["a", "b"]


def test_the_only_column_left_is_the_target(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "path,beak\n0.jpg,long\n1.jpg,short\n2.jpg,long\n"))
    assert dataset.targets == ["long", "short", "long"]
    assert "the only one left" in dataset.target_reason


def test_what_cannot_be_told_is_asked_for_with_a_suggestion(tmp_path: Path) -> None:
    path = table(tmp_path, "path,beak,wing\n0.jpg,long,x\n1.jpg,short,y\n")
    said = problem(path)
    assert said.startswith("TB63 data.csv has no column that looks like the target")
    assert "beak, wing" in said
    assert "Did you mean 'beak'?" in problem(path, target="beek")
    assert "Did you mean 'path'?" in problem(path, path_column="pth", target="beak")
    assert "Did you mean 'wing'?" in problem(path, split_column="wings", target="beak")
    assert "cannot be the target and the path" in problem(path, target="path")
    assert "no column of paths of images or sounds" in problem(put(tmp_path / "n.csv", b"a,b\n1,2\n"))
    assert open_dataset(path, target="wing").targets == ["x", "y"]


def test_several_target_columns_are_several_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "path,x,y\n0.jpg,1.5,2\n1.jpg,2.5,-3e2\n2.jpg,0,1\n")
    dataset = open_dataset(path, target=["x", "y"])
    assert dataset.targets == [(1.5, 2.0), (2.5, -300.0), (0.0, 1.0)]
    assert dataset.target_kind == "regression"
    assert dataset.meta == {}


def test_a_split_column_is_taken_by_name_or_as_asked(tmp_path: Path) -> None:
    text = "path,label,split,part\n0.jpg,a,train,Train\n1.jpg,a,valid,\n2.jpg,a,test,dev\n"
    path = table(tmp_path, text)
    assert open_dataset(path).splits == ["train", "validation", "test"]
    assert "part" in open_dataset(path).meta
    assert open_dataset(path, split_column="part").splits == ["train", None, "validation"]
    assert "TB65" in problem(path, split_column="label", target="part")


def test_a_column_called_split_with_other_words_is_not_a_split(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "path,label,split\n0.jpg,a,yes\n1.jpg,b,no\n"))
    assert dataset.splits == ()
    assert dataset.meta == {"split": ["yes", "no"]}


def test_rows_without_a_path_are_named(tmp_path: Path) -> None:
    assert "TB64" in problem(table(tmp_path, "path,label\n0.jpg,a\n,b\n"))


def test_the_same_file_twice_has_two_ids(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "path,label\n0.jpg,a\n0.jpg,b\n0.jpg#2,a\n"))
    assert len(set(dataset.ids)) == 3
    assert dataset.ids[0] == "0.jpg"


def test_semicolons_and_windows_paths_are_understood(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "0.jpg", JPEG)
    put(tmp_path / "dog" / "1.jpg", JPEG)
    dataset = open_dataset(table(tmp_path, "path;label\r\ncat\\0.jpg;cat\r\ndog\\1.jpg;dog\r\n"))
    assert dataset.ids == ["cat/0.jpg", "dog/1.jpg"]
    assert dataset[1].value.size == (20, 20)


def test_paths_may_be_relative_to_the_folder_that_has_them(tmp_path: Path) -> None:
    put(tmp_path / "images" / "x.jpg", JPEG)
    dataset = open_dataset(table(tmp_path, "path,label\nx.jpg,a\n"), task="single-label")
    assert dataset.values == [tmp_path / "images" / "x.jpg"]
    assert "images" in dataset.notes[0]


def test_a_table_whose_files_are_all_missing_says_where_it_looked(tmp_path: Path) -> None:
    said = problem(table(tmp_path, "path,label\nx.jpg,a\ny.jpg,b\n"))
    assert said.startswith("DA36 data.csv: none of its 2 files exists")


# ------------------------------------------------------------------------------------------------------- Hugging Face


def test_metadata_files_of_hugging_face_are_read(tmp_path: Path) -> None:
    for name, text in (
        ("metadata.csv", "file_name,label\na/0.jpg,x\n1.jpg,y\n"),
        ("metadata.jsonl", '{"file_name": "a/0.jpg", "label": "x"}\n{"file_name": "1.jpg", "label": "y"}\n'),
    ):
        root = tmp_path / name.replace(".", "")
        put(root / "a/0.jpg", JPEG)
        put(root / "1.jpg", JPEG)
        put(root / name, text.encode())
        dataset = open_dataset(root)
        assert dict(zip(dataset.ids, dataset.targets, strict=True)) == {"a/0.jpg": "x", "1.jpg": "y"}


def test_metadata_in_split_folders_gives_the_split(tmp_path: Path) -> None:
    for side in ("train", "test"):
        put(tmp_path / side / "0.jpg", JPEG)
        put(tmp_path / side / "metadata.csv", b"file_name,label\n0.jpg,x\n")
    dataset = open_dataset(tmp_path)
    assert sorted(zip(dataset.ids, dataset.splits, strict=True)) == [("test/0.jpg", "test"), ("train/0.jpg", "train")]


def test_parquet_with_the_pictures_inside_and_class_names_is_read(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    made = pa.table({"image": [{"bytes": JPEG, "path": f"{i}.jpg"} for i in range(3)], "label": [1, 0, 1]})
    made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(made, tmp_path / "train.parquet")
    dataset = open_dataset(tmp_path / "train.parquet")
    assert dataset.targets == ["yes", "no", "yes"]
    assert dataset.ids == ["0.jpg", "1.jpg", "2.jpg"]
    assert dataset[0].value.size == (20, 20)


# ----------------------------------------------------------------------------------------------------------- B5: paths


def test_paths_that_leave_the_folder_are_refused_by_line(tmp_path: Path, opened: list[str]) -> None:
    outside = put(tmp_path / "outside" / "secret.jpg", JPEG)
    root = tmp_path / "data"
    put(root / "0.jpg", JPEG)
    put(root / "sub" / "x.jpg", JPEG)
    (root / "link.jpg").symlink_to(outside)
    (root / "dir").symlink_to(outside.parent)
    (root / "sub" / "hop").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.jpg")
    attacks = [
        *("../outside/secret.jpg", "sub/../../outside/secret.jpg", str(outside), "link.jpg", "dir/secret.jpg"),
        *("sub/hop/outside/secret.jpg", "dir/../outside/secret.jpg", "/etc/passwd", "/proc/self/fd/0", "C:\\x.jpg"),
        *("\\\\host\\share\\x.jpg", "http://a.example/x.jpg", "file:///etc/passwd", "s3://b/x.jpg", "pipe.jpg"),
        *("a" * 5000, "..", "sub/..", "sub"),
    ]
    opened.clear()
    for attack in attacks:
        path = put(root / "data.csv", f"path,label\n0.jpg,a\n{attack},b\n".encode())
        with pytest.raises(Refused, match=r"TB61 data\.csv, line 3: ") as caught:
            open_dataset(path)
        assert "Refused" in str(caught.value)
        assert len(str(caught.value)) < 700
    real = [os.path.realpath(p) for p in opened]
    assert not [p for p in real if p.startswith(os.path.realpath(outside.parent)) or p == "/etc/passwd"]


def test_all_paths_that_leave_are_told_together_and_may_be_allowed(tmp_path: Path) -> None:
    put(tmp_path / "outside" / "1.jpg", JPEG)
    path = put(tmp_path / "data" / "d.csv", b"path,label\n../outside/1.jpg,a\n../outside/1.jpg,b\n")
    with pytest.raises(Refused, match=r"line 2.*line 3"):
        open_dataset(path)
    assert open_dataset(path, allow_outside=True)[0].value.size == (20, 20)
    path = put(tmp_path / "data" / "d.csv", b"path,label\nhttp://x.example/1.jpg,a\n")
    with pytest.raises(Refused, match="is a URL; nothing is fetched"):
        open_dataset(path, allow_outside=True)


def test_an_absolute_path_inside_the_folder_is_fine(tmp_path: Path) -> None:
    path = table(tmp_path, f"path,label\n{tmp_path}/0.jpg,a\n{tmp_path}/sub/../1.jpg,b\n")
    (tmp_path / "sub").mkdir()
    assert open_dataset(path)[1].value.size == (20, 20)


def test_metadata_cannot_lead_outside_either(tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg", JPEG)
    put(tmp_path / "data" / "metadata.csv", b"file_name,label\n../secret.jpg,a\n")
    with pytest.raises(Refused, match="TB61"):
        open_dataset(tmp_path / "data")


# -------------------------------------------------------------------------------------------------- frames and lists


def test_frames_of_every_make_give_the_same_dataset(tmp_path: Path) -> None:
    table(tmp_path, "")
    made = {"path": [str(tmp_path / f"{i}.jpg") for i in range(3)], "label": ["b", "NA", "b"], "site": [1, 2, 3]}
    sets = [open_dataset(kind(made)) for kind in (pandas.DataFrame, polars.DataFrame, pa.table)]
    for dataset in sets:
        assert dataset.targets == ["b", "NA", "b"]
        assert list(dataset.meta["site"]) == [1, 2, 3]
        assert dataset[2].value.size == (20, 20)
    assert len({d.fingerprint for d in sets}) == 1


def test_missing_labels_in_a_frame_are_missing(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"path": ["a.jpg"] * 3, "label": ["x", None, float("nan")]})
    assert "TB52 the pandas frame, column 'label': 2 of 3 rows have no label (first row 1, row 2)" in problem(frame)


def test_lists_of_everything_are_read(tmp_path: Path) -> None:
    picture, y = scene(3, (20, 20)), ["a", "b"]
    path = put(tmp_path / "x.jpg", JPEG)
    for values in ([path, path], [str(path)] * 2, [JPEG, JPEG], [picture] * 2, np.stack([np.asarray(picture)] * 2)):
        dataset = open_dataset(values, y=y)
        assert dataset.targets == y
        assert len(set(dataset.ids)) == 2
        assert dataset[1].value.size == (20, 20)
    numbers = open_dataset(np.zeros((2, 5)), y=np.array([0, 1]))
    assert numbers.modality == "vector"
    assert numbers.targets == ["0", "1"]


def test_lists_that_cannot_be_read_are_named() -> None:
    assert "2 examples but 3 targets" in problem([JPEG, JPEG], y=[1, 2, 3])
    assert "item 1 is a int" in problem([JPEG, 7])
    assert "mixes paths" in problem([JPEG, "a.jpg"])
    assert "is empty" in problem([])
    assert "an array of shape (2, 2, 2, 2, 2) is not a set of images" in problem(np.zeros((2,) * 5))
    with pytest.raises(Refused, match="is a URL"):
        open_dataset(["http://x.example/a.jpg"])
