"""Anyone's own files: every kind, every field, every way in which they can be wrong."""

import datasets
import pytest

from research_eval.errors import DataError


def texts_of(split) -> list[str]:
    """Undo the byte tokenizer."""
    pairs = zip(split.ids_NL.tolist(), split.lengths_N.tolist(), strict=True)
    return [bytes(i - 1 for i in row[:length] if i < 257).decode() for row, length in pairs]


def labelled(data, split) -> set[tuple[str, str]]:
    names = [data.label_names[label] for label in split.labels_N.tolist()]
    return set(zip(texts_of(split), names, strict=True))


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(load, write, rows, kind):
    data = load("files", path=str(write(f"own.{kind}", rows)), test_fraction=0.1)
    splits = (data.train, data.validation, data.test)
    found = set.union(*(labelled(data, split) for split in splits))
    assert found == {(row["text"], row["label"]) for row in rows}
    assert [len(split) for split in splits] == [48, 6, 6]
    assert data.label_names == ("neg", "pos")


def test_cut_splits_keep_the_balance_of_the_classes(load, write, rows):
    data = load("files", path=str(write("own.csv", rows)), validation_fraction=0.3)
    assert data.validation.labels_N.bincount().tolist() == [12, 6]
    assert data.test is None


def test_data_seed_decides_the_cut(load, write, rows):
    path = str(write("own.csv", rows))
    first, again, other = (load("files", path=path, data_seed=seed) for seed in (0, 0, 1))
    assert texts_of(first.validation) == texts_of(again.validation)
    assert texts_of(first.validation) != texts_of(other.validation)


def test_fields_are_named_by_the_user(load, write, rows):
    renamed = [{"body": row["text"], "kind": row["author"] % 2} for row in rows]
    path = str(write("own.jsonl", renamed))
    data = load("files", path=path, text_field="body", label_field="kind")
    assert data.label_names == ("0", "1")
    expected = {(row["body"], str(row["kind"])) for row in renamed}
    assert labelled(data, data.train) | labelled(data, data.validation) == expected


def test_relative_paths_start_at_the_configuration(load, write, rows):
    write("sub/own.csv", rows)
    assert len(load("files", path="sub/own.csv").train) == 54


def test_a_folder_brings_its_own_splits(load, write, rows):
    write("own/train.csv", rows[:30])
    write("own/validation.csv", rows[30:50])
    write("own/test.csv", rows[50:])
    data = load("files", path="own")
    assert labelled(data, data.test) == {(row["text"], row["label"]) for row in rows[50:]}
    assert (len(data.train), len(data.validation)) == (30, 20)


def test_a_folder_that_the_library_saved(load, tmp_path, rows):
    whole = datasets.Dataset.from_list(rows)
    whole.train_test_split(0.2, seed=0).save_to_disk(str(tmp_path / "saved"))
    data = load("files", path="saved")
    assert (len(data.train), len(data.validation), len(data.test)) == (43, 5, 12)


def test_declared_classes_keep_their_order(load, tmp_path, rows):
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["pos", "neg", "unused"])
    )
    plain = [{"text": row["text"], "label": row["label"]} for row in rows]
    (tmp_path / "own").mkdir()
    datasets.Dataset.from_list(plain, features=features).to_parquet(
        str(tmp_path / "own" / "train.parquet")
    )
    data = load("files", path="own")
    assert data.label_names == ("pos", "neg", "unused")
    assert labelled(data, data.train) < {(row["text"], row["label"]) for row in rows}


def test_a_changed_file_is_read_anew(load, write, rows):
    first = load("files", path=str(write("own.csv", rows)))
    rows[0]["text"] = "something else"
    second = load("files", path=str(write("own.csv", rows)))
    assert first.fingerprint != second.fingerprint
    assert "something else" in texts_of(second.train) + texts_of(second.validation)


def test_a_changed_file_in_a_folder_is_read_anew(load, write, rows):
    write("own/train.csv", rows[:40])
    write("own/test.csv", rows[40:])
    assert len(load("files", path="own").test) == 20
    write("own/test.csv", rows[50:])
    assert len(load("files", path="own").test) == 10


def test_groups_stay_together(load, write, rows):
    data = load(
        "files",
        path=str(write("own.csv", rows)),
        group_field="author",
        validation_fraction=0.2,
        test_fraction=0.2,
    )
    author = {row["text"]: row["author"] for row in rows}
    authors = [
        {author[text] for text in texts_of(s)} for s in (data.train, data.validation, data.test)
    ]
    assert [len(group) for group in authors] == [6, 2, 2]
    assert len(set.union(*authors)) == 10


def test_groups_that_the_given_splits_divide_are_removed_from_train(load, write, rows):
    write("own/train.csv", rows[:33])  # rows 30 to 35 are of one author
    write("own/test.csv", rows[33:])
    data = load("files", path="own", group_field="author", validation_fraction=0.2)
    assert data.counts == {"train_group_shared": 3}
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 6, 27)


def test_domains_are_numbered_in_order(load, write, rows):
    data = load("files", path=str(write("own.csv", rows)), domain_field="source")
    domain = {row["text"]: row["source"] for row in rows}
    names = [data.domain_names[index] for index in data.train.domains_N.tolist()]
    assert data.domain_names == ("a", "b", "c")
    assert names == [domain[text] for text in texts_of(data.train)]


def test_duplicates_leave_train_and_are_counted(load, write, rows):
    write("own/train.csv", [*rows[:20], rows[30], rows[31], rows[40]])
    write("own/validation.csv", rows[30:40])
    write("own/test.csv", [*rows[40:], rows[30]])
    data = load("files", path="own")
    assert data.counts == {"train_duplicates": 3}
    assert len(data.train) == 20
    assert (len(data.validation), len(data.test)) == (10, 21)  # official splits stay whole


def test_a_cut_validation_split_gives_way_to_test(load, write, rows):
    write("own/train.csv", rows)
    write("own/test.csv", rows)
    with pytest.raises(DataError, match=r"no usable rows in: train, validation"):
        load("files", path="own")


def test_rows_that_only_look_different_after_the_cut_to_length_are_duplicates(load, write):
    train = [{"text": f"the same beginning {n}", "label": n % 2} for n in range(20)]
    write("own/train.csv", train)
    write("own/test.csv", [{"text": "the same beginning, but not the end", "label": 0}])
    data = load("files", path="own", max_length=len("the same beginning 1"))
    assert data.test.ids_NL.shape[1] == 20
    with pytest.raises(DataError, match="no usable rows in: train"):
        load("files", path="own", max_length=len("the same beginning"))


def test_empty_texts_are_left_out_and_counted(load, write, rows):
    rows += [{**rows[0], "text": ""}, {**rows[0], "text": "  "}]
    data = load("files", path=str(write("own.jsonl", rows)))
    assert data.counts == {"train_empty": 2}
    assert len(data.train) + len(data.validation) == 60


def test_long_rows_are_cut_and_counted(load, write, rows):
    rows[0]["text"] = "x" * 300
    data = load("files", path=str(write("own.csv", rows)), max_length=100)
    assert sum(data.counts.values()) == 1
    assert "x" * 100 in texts_of(data.train) + texts_of(data.validation)


def test_limits_are_met_and_stratified(load, write, rows):
    path = str(write("own.csv", rows))
    data = load("files", path=path, train_samples=9, val_samples=3, validation_fraction=0.5)
    assert data.train.labels_N.bincount().tolist() == [6, 3]
    assert data.validation.labels_N.bincount().tolist() == [2, 1]


def test_hidden_classes_of_a_test_split_leave_no_test_split(load, tmp_path):
    """As in SST-2, whose published test split has -1 for every label."""
    features = datasets.Features(
        sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    for name, hide in (("train", False), ("validation", False), ("test", True)):
        offset = {"train": 0, "validation": 60, "test": 70}[name]
        plain = [
            {"sentence": f"text {offset + n}", "label": -1 if hide else n % 2} for n in range(10)
        ]
        (tmp_path / "sst2").mkdir(exist_ok=True)
        datasets.Dataset.from_list(plain, features=features).to_parquet(
            str(tmp_path / "sst2" / f"{name}-00000-of-00001.parquet")
        )
    data = load("sst2", path="sst2")
    assert data.test is None
    assert data.label_names == ("neg", "pos")
    assert (len(data.train), len(data.validation)) == (10, 10)


WRONG = {
    "no text column": (
        {"text_field": "body"},
        r"no column 'body' for text_field.*known: author, label, source, text",
    ),
    "no label column": (
        {"label_field": "labels"},
        r"no column 'labels' for label_field; did you mean 'label'",
    ),
    "no domain column": ({"domain_field": "topic"}, "no column 'topic' for domain_field"),
    "no group column": ({"group_field": "writer"}, "no column 'writer' for group_field"),
    "text is a number": ({"text_field": "author"}, "holds int values, not text"),
    "too few groups": ({"group_field": "text", "validation_fraction": 0.999}, "would be empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_fields_are_named_with_what_there_is(load, write, rows, case):
    settings, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        load("files", path=str(write("own.parquet", rows)), **settings)


def test_a_single_class_is_refused(load, write, rows):
    same = [{**row, "label": "pos"} for row in rows]
    with pytest.raises(DataError, match=r"54 training rows are of one class.*pos"):
        load("files", path=str(write("own.csv", same)))


def test_missing_labels_are_refused(load, write, rows):
    rows[3]["label"] = rows[4]["label"] = None
    with pytest.raises(DataError, match="label_field 'label' is empty in 2 of 60 rows"):
        load("files", path=str(write("own.jsonl", rows)))


def test_an_empty_cell_of_a_table_is_a_missing_label(load, tmp_path):
    (tmp_path / "own.csv").write_text("text,label\none,1\ntwo,\nthree,0\n")
    with pytest.raises(DataError, match="label_field 'label' is empty in 1 of 3 rows"):
        load("files", path="own.csv")


def test_lists_are_no_labels(load, write, rows):
    tagged = [{**row, "label": [row["label"]]} for row in rows]
    with pytest.raises(DataError, match="label_field 'label' holds list values"):
        load("files", path=str(write("own.jsonl", tagged)))


def test_fractional_labels_are_refused(load, write, rows):
    scored = [{**row, "label": index / 7} for index, row in enumerate(rows)]
    with pytest.raises(DataError, match="names no class"):
        load("files", path=str(write("own.jsonl", scored)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", "", "is empty"),
        ("own.csv", "text,label\n", "corresponds to no data"),
        ("own.txt", " \n\n", "no usable rows in: train"),
        ("own.jsonl", "{]", "cannot read"),
        ("own.parquet", "no parquet", "cannot read"),
        ("own.docx", "text", "unknown kind; known: .csv, .tsv, .json, .jsonl, .parquet, .txt"),
    ],
)
def test_unusable_files_are_refused(load, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    task = "language_modeling" if name.endswith("txt") else "classification"
    with pytest.raises(DataError, match=message):
        load("files", path=name, task=task)


def test_text_that_is_not_utf8_is_refused(load, tmp_path):
    (tmp_path / "own.txt").write_bytes(b"caf\xe9\n" * 20)
    with pytest.raises(DataError, match="cannot read"):
        load("files", path="own.txt", task="language_modeling")


def test_a_folder_without_data_files_is_refused(load, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.md").write_text("nothing")
    with pytest.raises(DataError, match="has no file that ends in"):
        load("files", path="own")


def test_a_folder_without_training_data_is_refused(load, write, rows):
    write("own/test.csv", rows)
    with pytest.raises(DataError, match="no split 'train', only: test"):
        load("files", path="own")


def test_an_incomplete_folder_is_refused(load, write, rows):
    write("own/train-00000-of-00002.parquet", rows)
    with pytest.raises(DataError, match=r"incomplete: there is no train-00001-of-00002\.parquet"):
        load("files", path="own")


def test_a_path_is_needed(load):
    with pytest.raises(DataError, match=r"needs dataset_params\.path"):
        load("files")


def test_a_path_that_is_not_there_is_named(load):
    with pytest.raises(DataError, match=r"dataset_params\.path is nowhere\.csv, but there is no"):
        load("files", path="nowhere.csv")
