"""The report and its files: self-contained, escaped, whole or not there."""

import re
from html.parser import HTMLParser

import pytest

from research_eval.analysis import Request, analyze
from research_eval.errors import StoreError

HOSTILE = "<script>alert('1')</script>&\"' $x_1$ 🦉\u202e"


class Page(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    VOID = frozenset({"meta", "br", "img", "!doctype"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        self.links += [named[name] for name in ("src", "href") if name in named]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(lab, folder, **request):
    (made,) = analyze(lab.store, Request(**request), folder=folder)
    (page,) = (path for path in made.files if path.suffix == ".html")
    return made, page.read_text(encoding="utf-8")


@pytest.fixture
def compared(lab):
    lab.seeds("dense", [0.7, 0.72, 0.71], argv='["/bin/research-eval", "run", "a b.json"]')
    lab.seeds("moe", [0.8, 0.82, 0.81], metrics={"param_count": 10.0})
    return lab


def test_the_report_needs_nothing_but_itself(compared, tmp_path):
    _, text = report(compared, tmp_path / "out", candidate="moe")
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"https?:|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_it_says_verdicts_tables_and_how_to_make_it_again(compared, tmp_path):
    made, text = report(compared, tmp_path / "out", candidate="moe")
    told = "".join(Page(text).text)
    assert made.section("contrasts").sentences[0] in told
    assert "research-eval run 'a b.json'" in told
    assert "research-eval analyze" in told
    for section in made.sections:
        assert section.output.title in told
        assert all(note in told for note in section.notes)


def test_links_within_the_page_lead_somewhere(compared, tmp_path):
    _, text = report(compared, tmp_path / "out")
    for link in Page(text).links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in text


def test_hostile_names_are_text(lab, tmp_path):
    names = dict.fromkeys(("dataset_name", "experiment_name", "study"), HOSTILE)
    for seed, value in enumerate((0.5, 0.6)):
        flags = {HOSTILE: HOSTILE}
        lab.run(HOSTILE, value, seed, flags=flags, argv='["x", "<b>"]', phase="confirm", **names)
    lab.run("moe", 0.4, dataset_name=HOSTILE)
    made, text = report(lab, tmp_path / "out")
    assert "<script" not in text
    assert HOSTILE in "".join(Page(text).text)
    assert all(path.parent == tmp_path / "out" for path in made.files)
    assert all(path.is_file() for path in made.files)


def test_a_picture_of_an_earlier_report_does_not_stay(compared, tmp_path):
    made, _ = report(compared, tmp_path)
    stale = next(path for path in made.files if path.name == "parity_contrasts.png")
    made, _ = report(compared, tmp_path, arms=("moe",))
    assert not stale.exists()


def test_a_part_is_written_alone_and_without_a_report(compared, tmp_path):
    (made,) = analyze(compared.store, Request(), folder=tmp_path / "out", only=["best_runs"])
    assert [path.name for path in made.files] == ["parity_summary_table_best_finalvalf1.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [made.files[0].name]


def test_a_folder_that_cannot_be_written_is_found_before_any_work(compared, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        analyze(
            compared.store,
            Request(),
            folder=tmp_path / "file" / "out",
            say=lambda line: pytest.fail(line),
        )


def test_data_sets_that_the_question_does_not_fit_are_left_out_aloud(lab, tmp_path):
    lab.run()
    lab.run(value=None, dataset_name="text", metrics={"final_val_loss": 2.0})
    told = []
    reports = analyze(
        lab.store, Request(goal="final_val_f1"), folder=tmp_path / "out", warn=told.append
    )
    assert [each.evidence.dataset for each in reports] == ["parity"]
    assert len(told) == 1
    assert told[0].startswith("text is left out: no run recorded 'final_val_f1'")
