"""What tells who made a run is replaced, and nothing that means something is."""

import ast
import json

import pytest

from research_eval.anonymity import Anonymizer, Identity, identities_in
from research_eval.records import RunStatus
from research_eval.testing.runs import ended_run

KNOWN = (
    Identity("host", "gpu07.cs.acme.edu"),
    Identity("user", "wunderlich"),
    Identity("user", "moe"),  # also the name of a model
    Identity("user", "al"),
    Identity("person", "José Müller"),
    Identity("email", "jmueller@acme.edu"),
    Identity("path", "/home/wunderlich/my project"),
    Identity("url", "git@github.com:acme-lab/secret-moe.git"),
    Identity("commit", "0123456789abcdef0123456789abcdef01234567"),
)


@pytest.fixture
def anonymizer():
    return Anonymizer(KNOWN, keep=["moe", "router", "val_f1"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('File "/home/wunderlich/my project/x.py", line 3', 'File "anon_path_1/x.py", line 3'),
        ("at /srv/acme/y/z.py: boom", "at anon_path_1/z.py: boom"),
        ("-I/home/bob/include", "-Ianon_path_1"),
        ("PATH=/usr/bin:/opt/acme/bin", "PATH=/usr/bin:anon_path_1"),
        ("C:\\Users\\Bob\\p\\x.py", "anon_path_1/x.py"),
        ("C:\\Users\\Bob Smith\\x.py", "anon_path_1/x.py"),
        ("/v/lib/python3/site-packages/torch/nn.py", "anon_path_1/site-packages/torch/nn.py"),
        ("~/secret/x.csv", "anon_path_1/x.csv"),
        ("%2Fhome%2Fwunderlich%2Fmy%20project", "anon_path_1"),
        (
            "WunderlichRouter myWunderlich2 Wunderlichs",
            "anon_user_1Router myWunderlich2 Wunderlichs",
        ),
        ("wunderlich_router WUNDERLICH", "anon_user_1_router anon_user_1"),
        ("on gpu07, that is gpu07.cs.acme.edu", "on anon_host_1, that is anon_host_2"),
        ("Jos\\u00e9 M\\u00fcller, Jose\u0301 Mu\u0308ller", "anon_person_1, anon_person_1"),
        ("ask a@b.org", "ask anon_email_1"),
        ("ssh://me@h.x/y and https://wandb.ai/acme-lab", "anon_url_1 and anon_url_2"),
        ("the acme-lab repository secret-moe", "the anon_team_1 repository anon_team_2"),
        ("index 0123456789abcdef0123456789abcdef01234567", "index anon_commit_1"),
    ],
)
def test_what_identifies_is_replaced(anonymizer, given, expected):
    assert anonymizer.text(given) == expected
    assert anonymizer.text(expected) == expected, "twice is once"


@pytest.mark.parametrize(
    "text",
    [
        "moe with a router reaches val_f1 0.912; al is short, malice is another word",
        "</td></tr><br/> 3 tokens/s, a/b/c, 1/2/2024, and/or, text/html",
        "see https://arxiv.org/abs/2101.03961.",
        "/usr/lib/python3.11/os.py",
        "data:image/png;base64,ab+/cd/ef/wunderlich/x/y==",
        "scores = q@k.transpose(1, 2)",
        '{"$ref": "#/$defs/MoEParams"}',
        "c086dfa1e7cf2672fccd6a3a4346b3101fd9564c72f938e3c4f11eb5d6935467",
    ],
)
def test_what_means_something_stays(anonymizer, text):
    assert anonymizer.text(text) == text
    assert anonymizer.account == []


def test_fields_that_identify_are_replaced_whole_however_short(anonymizer):
    tree = {
        "user": "al",
        "host": "vm",
        "project": "default",
        "base_dir": "/d",
        "deep": {"team": "x", "model": "moe", "user": "moe"},
        "installed": {"torch": "2.10", "acme-internal": "0.1"},
    }
    assert anonymizer.tree(tree) == {
        "user": "anon_user_1",
        "host": "anon_host_1",
        "project": "default",
        "base_dir": "anon_path_1",
        "deep": {"team": "anon_team_1", "model": "moe", "user": "anon_user_2"},
        "installed": {"torch": "2.10"},
    }


def test_json_is_read_before_names_are_looked_for(anonymizer):
    told = json.dumps({"José Müller": ["/home/wunderlich/my project", 0.1, None]})
    assert json.loads(anonymizer.json(told)) == {"anon_person_1": ["anon_path_1", 0.1, None]}


def test_a_program_computes_what_it_did(anonymizer):
    source = (
        '"""By José Müller <jmueller@acme.edu>."""\n'
        "from other import wunderlich\n"
        "wunderlich_scale = wunderlich.jmueller(router=8)\n"
        "class WunderlichRouter: pass\n"
        "def f(q, k):  # see /home/wunderlich/my project/notes.txt\n"
        "    return q@k.mt /k/q, '/data/acme/x.csv'\n"
    )
    found = anonymizer.source(source)
    ast.parse(found)
    assert "q@k.mt /k/q" in found
    assert "anon_user_1_scale = wunderlich.jmueller(router=8)" in found, "not its own to rename"
    assert "class anon_user_1Router" in found
    assert not any(word in found for word in ("José", "Wunderlich", "acme"))


def test_the_account_says_what_was_removed_and_where(anonymizer):
    anonymizer.text("wunderlich", "argv")
    anonymizer.text("Wunderlich and a@b.org", "error")
    told = {each.kind: (each.count, len(each.things), each.example) for each in anonymizer.account}
    assert told == {"email": (1, 1, "error"), "user": (2, 1, "argv")}


def test_a_binary_that_identifies_is_known(anonymizer):
    assert anonymizer.left_in(b"\x00\xffwunderlich\x00") == ["wunderlich"]
    assert anonymizer.left_in(b"\x00WUNDERLICH\x00") == ["WUNDERLICH"]
    assert anonymizer.left_in(b"\x89PNG /home/bob/x") == ["/home/bob/"]
    assert anonymizer.left_in(bytes(range(256)) * 100) == []


def test_records_name_what_identifies_in_them():
    tree = {"user": "bob", "packages": {"torch": "1"}, "data": {"path": "/d/acme/x.csv"}, "n": 3}
    tree["source"] = "/d/acme/x.csv, tokenizer byte"
    assert set(identities_in(tree)) == {Identity("user", "bob"), Identity("file", "/d/acme/x.csv")}


def test_a_user_who_is_called_like_a_metric_destroys_none():
    config = {"experiment_name": "adalbert", "model_params": {"k1": "prob"}}
    run = ended_run(
        "r",
        RunStatus.COMPLETED,
        {"train_router_grad_norm": 1.0, "ada/loss": 2.0, "adalbert/x": 1.0},
        env_details_json=json.dumps({"user": "router", "base_dir": "/home/adalbert/moe"}),
        full_config_json=json.dumps(config),
        model_type="moe",
    )
    found = Anonymizer.of([run]).record(run)
    assert set(found.metrics) == {"train_router_grad_norm", "ada/loss", "anon_user_1/x"}
    assert json.loads(found.env_details_json)["user"] == "anon_user_2"
    assert json.loads(found.full_config_json)["experiment_name"] == "anon_user_1"
    assert found.model_type == "moe"
