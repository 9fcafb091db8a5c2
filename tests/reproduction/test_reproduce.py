"""A bundle is reproduced in another place, and what hinders it is said before anything runs."""

import json
import shutil
import signal
import zipfile
from pathlib import Path

import pytest

from .conftest import NAMES, sql


def verdicts(said):
    return {row["verdict"] for row in said.json}


def changed(bundle, changes):
    """Return a copy of a zip file with some members replaced."""
    path = bundle.with_name("changed.zip")
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(path, "w") as new:
        for name in dict.fromkeys([*old.namelist(), *changes]):
            new.writestr(name, changes[name] if name in changes else old.read(name))
    return path


def test_a_clean_folder_of_another_user_gets_the_same_bits(cli, config, exported, elsewhere):
    cli("run", config(), "--seeds", 2)
    bundle, recorded = exported(), Path.cwd()
    folder = elsewhere()
    shutil.rmtree(recorded / f"{NAMES}.artifacts")
    said = cli("reproduce", bundle, "--format", "json")
    assert said.code == 0
    assert verdicts(said) == {"bit-equal"}
    assert {row["seed"] for row in said.json} == {0, 1}
    assert "code: the source is what was recorded" in said.err
    assert [path.name for path in folder.iterdir()] == ["paper_reproduced"]
    assert not list(folder.rglob(NAMES)), "the user's own database is never touched"


def test_a_plug_in_travels_and_runs_only_where_it_is_trusted(cli, with_router, exported, elsewhere):
    cli("run", with_router)
    bundle, recorded = exported(), Path.cwd()
    folder = elsewhere()
    shutil.rmtree(recorded / f"{NAMES}.artifacts")
    (recorded / "router.py").unlink()
    said = cli("reproduce", bundle)
    assert said.code == 2
    assert "router.py" in said.errors[0]
    assert "--trust" in said.errors[0]
    assert not (folder / "imported").exists(), "it was not even imported"
    said = cli("reproduce", bundle, "--trust", "--format", "json")
    assert said.code == 0
    assert verdicts(said) == {"bit-equal"}


def test_a_program_that_did_not_travel_is_never_run(cli, with_router, exported, elsewhere):
    cli("run", with_router)
    sql("UPDATE artifacts SET kind = 'report' WHERE kind = 'plugin'")
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle, "--trust")
    assert said.code == 4
    assert "does not carry router.py" in said.errors[0]


def test_what_is_done_is_not_done_twice(cli, config, exported, elsewhere):
    cli("run", config(), "--seeds", 3)
    bundle = exported()
    elsewhere()
    first = cli("reproduce", bundle, "--seeds", 1, "--format", "json")
    assert {row["seed"] for row in first.json} == {0}
    said = cli("reproduce", bundle, "--format", "json")
    assert said.err.count("already recorded") == 1
    assert {row["seed"] for row in said.json} == {0, 1, 2}
    one = said.json[-1]["run"]
    only = cli("reproduce", bundle, "--only", one[:8], "--format", "json")
    assert {row["run"] for row in only.json} == {one}
    unknown = cli("reproduce", bundle, "--only", "nobody")
    assert (unknown.code, one in unknown.errors[0]) == (2, True)


def test_an_interrupted_reproduction_goes_on(cli, held_config, exported, elsewhere, programs):
    Path("go").touch()
    cli("run", held_config)
    bundle = exported()
    folder = elsewhere()
    process = programs.start("reproduce", bundle, "--trust")
    programs.wait_until_held()
    process.send_signal(signal.SIGINT)
    (folder / "go").touch()
    assert programs.finish(process).code == 130
    said = cli("reproduce", bundle, "--trust", "--format", "json")
    assert "resumed and completed" in said.err
    assert verdicts(said) == {"bit-equal"}


def test_a_dry_run_checks_and_runs_nothing(cli, config, exported, elsewhere):
    cli("run", config())
    bundle = exported()
    folder = elsewhere()
    said = cli("reproduce", bundle, "--dry-run")
    assert (said.code, said.out) == (0, "")
    assert "data: the fingerprint of parity is what was recorded" in said.err
    assert not list(folder.rglob("reproduced*.db"))


def test_what_a_killed_process_took_in_half_is_taken_in_again(
    cli, with_router, exported, elsewhere
):
    cli("run", with_router)
    bundle = exported()
    folder = elsewhere() / "paper_reproduced"
    assert cli("reproduce", bundle, "--dry-run", "--trust").code == 0
    owner = folder / "bundle.sha256"
    owner.write_text(owner.read_text().split()[0])
    (folder / "recorded.db").unlink()
    (folder / ".import-x").mkdir()
    assert cli("reproduce", bundle, "--dry-run", "--trust").code == 0
    assert not (folder / ".import-x").exists()


# --------------------------------------------------------------------------------- differences


def test_other_versions_are_said_and_do_not_hinder(cli, config, exported, elsewhere):
    cli("run", config())
    sql("UPDATE experiments SET env_details_json = json_set(env_details_json, "
        "'$.packages.torch', '1.0', '$.python', '3.6.1')")  # fmt: skip
    sql("UPDATE experiments SET code_hash = 'another'")
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle, "--format", "json")
    assert said.code == 0
    told = [line.split() for line in said.err.splitlines()]
    assert ["python", "3.6.1"] in [words[:2] for words in told]
    assert ["torch", "1.0"] in [words[:2] for words in told]
    assert "is not what was recorded" in said.err


def test_other_threads_are_possible_and_have_a_database_of_their_own(
    cli, config, exported, elsewhere
):
    cli("run", config())
    bundle = exported()
    folder = elsewhere()
    cli("reproduce", bundle)
    said = cli("reproduce", bundle, "training_params.num_threads=2", "--format", "json")
    assert said.code == 0
    assert "CPU threads: 1 recorded, 2 here" in said.err
    assert "already recorded" not in said.err
    assert len(list(folder.glob("*/reproduced*.db"))) == 2


@pytest.mark.parametrize("setting", ["epochs=2", "model_params.embed_dim=16", "seed=5"])
def test_what_would_compute_something_else_is_refused(cli, config, exported, elsewhere, setting):
    cli("run", config())
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle, setting)
    assert said.code == 2
    assert setting in said.errors[0]


def test_scores_outside_of_the_spread_of_seeds_are_named(cli, config, exported, elsewhere):
    cli("run", config(), "--seeds", 3)
    sql("UPDATE metrics SET metric_value = metric_value + 1 WHERE metric_name = 'final_val_loss'")
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle, "--format", "json")
    assert said.code == 5
    outside = {row["metric"] for row in said.json if row["verdict"] == "outside"}
    assert outside == {"final_val_loss"}
    assert "3 runs have scores outside" in said.errors[0]
    one = cli("reproduce", bundle, "--seeds", 1)
    assert one.code == 5, "the spread is that of all recorded seeds"


def test_two_seeds_do_not_tell_a_spread(cli, config, exported, elsewhere):
    cli("run", config(), "--seeds", 2)
    sql("UPDATE metrics SET metric_value = metric_value + 1 WHERE metric_name = 'final_val_loss'")
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle, "--format", "json")
    assert said.code == 0
    found = [row for row in said.json if row["metric"] == "final_val_loss"]
    assert {row["verdict"] for row in found} == {"not equal"}
    assert [row["difference"] for row in found] == pytest.approx([-1, -1])
    assert "fewer than 3 seeds" in said.err


# --------------------------------------------------------------------------------- data


@pytest.fixture
def of_a_file(cli, config):
    """Record a run on a file at an absolute path, and return that path."""
    rows = [f"{'good' if i % 2 else 'bad'} words {i},{i % 2}" for i in range(80)]
    data = Path("reviews.csv").resolve()
    data.write_text("text,label\n" + "\n".join(rows))
    params = {"path": str(data), "tokenizer": "byte", "max_length": 16}
    path = config("file.json", dataset_name="files")
    tree = json.loads(path.read_text()) | {"dataset_params": params}
    path.write_text(json.dumps(tree))
    assert cli("run", path).code == 0
    return data


def test_missing_data_is_told_with_what_to_do(cli, of_a_file, exported, elsewhere):
    bundle = exported()
    folder = elsewhere()
    moved = folder.parent / "moved.csv"
    of_a_file.rename(moved)
    said = cli("reproduce", bundle)
    assert said.code == 3
    assert "dataset_params.path=" in said.errors[0]
    named = cli("reproduce", bundle, f"dataset_params.path={moved}", "--format", "json")
    assert (named.code, verdicts(named)) == (0, {"bit-equal"})
    moved.rename(folder / "reviews.csv")
    found = cli("reproduce", bundle, "--format", "json")
    assert (found.code, verdicts(found)) == (0, {"bit-equal"}), "found by its name"


@pytest.mark.parametrize("place", ["~nobody-here/rows.csv", f"/{'x' * 300}/rows.csv"])
@pytest.mark.usefixtures("of_a_file")
def test_a_place_that_cannot_be_looked_at_has_no_data(cli, exported, elsewhere, place):
    sql("UPDATE experiments SET full_config_json = "
        "json_set(full_config_json, '$.dataset_params.path', ?)", place)  # fmt: skip
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle)
    assert (said.code, place in said.errors[0]) == (3, True)


def test_other_data_is_refused_for_the_runs_that_need_it(
    cli, config, of_a_file, exported, elsewhere
):
    cli("run", config())
    bundle = exported()
    elsewhere()
    of_a_file.write_text(of_a_file.read_text().replace("good words 1,", "fine words 1,"))
    said = cli("reproduce", bundle, "--format", "json")
    assert said.code == 3
    assert "fingerprint" in said.errors[0]
    assert len({row["run"] for row in said.json}) == 1, "the other run is reproduced"


@pytest.mark.usefixtures("of_a_file")
def test_a_score_that_is_missing_hides_no_other_problem(cli, config, exported, elsewhere):
    cli("run", config())
    sql("UPDATE metrics SET metric_name = 'final_val_f9' WHERE metric_name = 'final_val_f1'")
    sql("UPDATE experiments SET data_hash = 'other' WHERE dataset_name = 'files'")
    bundle = exported()
    elsewhere()
    said = cli("reproduce", bundle)
    assert said.code == 5
    assert "1 runs have scores missing" in said.errors[0]
    assert "cannot be reproduced here" in said.err
    assert "fingerprint" in said.err


# --------------------------------------------------------------------------------- bad bundles


@pytest.mark.parametrize("member", ["artifacts", "runs.db"])
def test_an_edited_bundle_is_refused_and_the_file_named(
    cli, with_router, exported, elsewhere, member
):
    cli("run", with_router)
    bundle = exported()
    folder = elsewhere()
    with zipfile.ZipFile(bundle) as opened:
        name = next(each for each in opened.namelist() if each.startswith(member))
        content = opened.read(name)
    said = cli("reproduce", changed(bundle, {name: content + b"\n"}), "--trust")
    assert said.code == 4
    assert name in said.errors[0]
    assert list(folder.iterdir()) == []


def test_a_bundle_that_reaches_out_is_refused(cli, config, exported, elsewhere):
    cli("run", config())
    bundle = exported()
    folder = elsewhere()
    with zipfile.ZipFile(bundle) as opened:
        manifest = json.loads(opened.read("manifest.json"))
    manifest["files"]["../evil.py"] = {"sha256": "0", "bytes": 4}
    changes = {"../evil.py": b"evil", "manifest.json": json.dumps(manifest)}
    said = cli("reproduce", changed(bundle, changes))
    assert (said.code, "evil.py" in said.errors[0]) == (4, True)
    assert list(folder.iterdir()) == []
    assert not (folder.parent / "evil.py").exists()


@pytest.mark.parametrize("content", [None, b"", b"no zip file", b"PK\x03\x04 cut off"])
def test_what_is_no_bundle_is_one_line(cli, content):
    if content is not None:
        Path("x.zip").write_bytes(content)
    said = cli("reproduce", "x.zip")
    assert said.code == 4
    assert len(said.err.splitlines()) == 1
    assert not Path("x_reproduced").exists()


def test_a_folder_belongs_to_one_bundle(cli, config, exported):
    cli("run", config())
    first = exported()
    cli("run", config(), "--seeds", "1,")
    second = exported("second.zip")
    assert cli("reproduce", first, "-o", "out").code == 0
    said = cli("reproduce", second, "-o", "out")
    assert (said.code, "another bundle" in said.errors[0]) == (2, True)
    said = cli("reproduce", second, "-o", ".")
    assert (said.code, "not empty" in said.errors[0]) == (2, True)
