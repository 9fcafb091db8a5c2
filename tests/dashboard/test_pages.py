"""Every page in a real browser: what a person sees, and what the browser complained of."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.crowd import fill_crowd
from research_eval.testing.runs import new_run

from .conftest import HOSTILE

PAGES = {
    "runs": "tbody tr td a",
    "runs?by=model_type": "[aria-label='Groups'] td a",
    "runs/spiky": "canvas",
    "runs/paths/experts": "canvas[aria-label^='Load over time']",
    "runs/paths/experts?array=transitions": "svg path",
    "runs/experts/experts?array=coupling": "svg circle",
    "runs/experts/experts?array=members": "svg circle",
    "runs/run1/experts": "#page p",
    "compare?run=run0&run=run1": "[aria-label='Metrics'] td",
    "studies": "tbody td a",
    "studies/search": "section[aria-label='importance'] rect",
    "reports": "#page p",
    "help": "kbd",
}
"""Each page and what is there once it is drawn."""

NAMED_ROLES = {
    "button",
    "checkbox",
    "combobox",
    "dialog",
    "image",
    "img",
    "link",
    "region",
    "searchbox",
    "slider",
    "spinbutton",
    "textbox",
}

CONTRAST = """
const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const luminance = (name) => {
  const style = getComputedStyle(document.documentElement);
  paint.fillStyle = style.getPropertyValue(name);
  paint.fillRect(0, 0, 1, 1);
  const parts = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const found = {};
for (const text of ["--ink", "--muted", "--accent", "--bad", "--good"]) {
  for (const paper of ["--paper", "--raised"]) {
    const [low, high] = [luminance(text), luminance(paper)].sort((a, b) => a - b);
    found[`${text} on ${paper}`] = (high + 0.05) / (low + 0.05);
  }
}
return found;
"""


def unnamed(browser):
    """Return what a person who listens would meet without a name."""
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        node["role"]["value"]
        for node in tree
        if not node["ignored"]
        and node["role"]["value"] in NAMED_ROLES
        and not node.get("name", {}).get("value", "").strip()
    ]


def settled(browser):
    """Return complaints and traffic of a page that has come to rest."""
    browser.until(lambda: not any("Reading" in text for text in browser.texts("#page > p.quiet")))
    return browser.complaints(), browser.traffic()


# ------------------------------------------------------------------------------------ each page


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_drawn_without_a_complaint_and_asks_nobody_else(browser, address, page):
    browser.open(address + page, until=PAGES[page])
    complaints, traffic = settled(browser)
    assert complaints == []
    assert traffic.urls
    assert traffic.elsewhere == []
    assert unnamed(browser) == []


HOSTILE_PAGES = {
    "runs": ".virtual",
    "runs/hostile": "#title",
    "compare?run=hostile&run=run0": "[aria-label='Configuration'] td",
    "studies": "tbody a",
}


@pytest.mark.parametrize("page", HOSTILE_PAGES)
def test_a_hostile_name_is_only_text(browser, address, page):
    browser.open(address + page, until=HOSTILE_PAGES[page])
    browser.until(lambda: any(HOSTILE in text for text in browser.texts(HOSTILE_PAGES[page])))
    complaints, traffic = settled(browser)
    assert browser.driver.title != "taken"
    assert browser.all("img") == []
    assert complaints == []
    assert traffic.elsewhere == []
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


def test_light_and_dark_are_legible(browser, address):
    browser.open(f"{address}help", until="kbd")
    first = browser.run("return document.documentElement.dataset.theme")
    for _ in range(2):
        contrast = browser.run(CONTRAST)
        assert min(contrast.values()) >= 4.5, contrast
        browser.one("#theme").click()
    assert browser.run("return document.documentElement.dataset.theme") == first


# --------------------------------------------------------------------------------------- runs


def rows(browser):
    return browser.texts(".virtual tbody tr:not([aria-hidden]) td:nth-child(2)")


def parameters(browser):
    return browser.run("return Object.fromEntries(new URLSearchParams(location.search))")


def test_runs_are_found_selected_and_compared_by_keys_alone(browser, address):
    browser.open(f"{address}runs", until=".virtual tbody a")
    browser.press("/")
    browser.press('study is null and model_type == "dense"', Keys.ENTER)
    browser.until(lambda: rows(browser) == ["dense_parity"] * 3)
    assert parameters(browser)["q"] == 'study is null and model_type == "dense"'
    browser.press(Keys.ESCAPE, "j", "x", "j", "j", "x")
    browser.until(lambda: browser.texts("#compare") == ["Compare 2"])
    assert "selected" in browser.one("tr.active").get_attribute("class")
    browser.press("c")
    browser.wait_for("[aria-label='Metrics'] td")
    assert "/compare?run=run5&run=run1" in browser.driver.current_url
    browser.press("?")
    browser.wait_for("#keys")


def test_a_mistake_in_a_filter_is_told_beside_it(browser, address):
    browser.open(f"{address}runs?q=seed+%3E%3E+2", until="#problem:not([hidden])")
    assert "expected a value" in browser.texts("#problem")[0]
    assert browser.run("return document.activeElement.selectionStart") == 6


def test_an_address_shows_everyone_the_same(browser, address):
    state = "q=study+is+null+and+metrics.final_val_loss+>+0&sort=-metrics.final_val_loss"
    state += "&columns=seed,metrics.final_val_loss&pin=val_loss&pin=tokens_seen&sel=run1&log=y"
    browser.open(f"{address}runs?{state}", until=".chart canvas")
    browser.until(lambda: len(browser.all(".chart canvas")) == 2)
    assert browser.texts(".chart figcaption strong") == ["val_loss", "tokens_seen"]
    losses = browser.texts(".virtual tbody tr:not([aria-hidden]) td:nth-child(3)")
    assert losses == ["1.5", "1.4", "1.3", "1.2", "1.1", "1"]
    assert browser.one("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert browser.texts("#compare") == ["Compare 1"]
    browser.until(lambda: len(browser.texts(".chart:first-child .legend li")) == 1)


def test_a_heading_sorts_and_columns_are_chosen(browser, address):
    browser.open(f"{address}runs?q=study+is+null+and+seed<9", until=".virtual tbody a")
    (heading,) = [each for each in browser.all("th button") if each.text == "seed"]
    heading.click()
    browser.until(lambda: parameters(browser).get("sort") == "-seed")
    browser.one("#choose").click()
    browser.wait_for("dialog[open] input[value='model_params.top_k']").click()
    browser.one("dialog button").click()
    browser.until(lambda: any("top_k" in text for text in browser.texts(".virtual th")))
    assert "model_params.top_k" in parameters(browser)["columns"]


def test_groups_show_mean_deviation_and_number(browser, address):
    groups = "[aria-label='Groups'] td a"
    browser.open(f"{address}runs?by=model_type&q=study+is+null", until=groups)
    told = dict(
        zip(
            browser.texts(groups), browser.texts("[aria-label='Groups'] td:last-child"), strict=True
        )
    )
    assert told["moe"] == "1.2 ± 0.2 (3 of 5)"
    browser.wait_for(".chart canvas")
    assert any("mean of the runs at each step" in note for note in browser.texts(".note"))
    browser.one(groups).click()
    browser.until(lambda: "model_type" in parameters(browser).get("q", ""))


def test_a_single_high_step_is_seen_and_zooming_asks_for_more(browser, address):
    browser.open(f"{address}runs/spiky", until=".u-over")
    browser.until(lambda: "5,000 points" in browser.texts(".note")[0])
    browser.run("document.querySelector('.chart details').open = true")
    greatest = browser.texts(".chart details tbody td:nth-child(6)")
    browser.until(lambda: browser.texts(".chart details tbody td:nth-child(6)"))
    assert "99" in browser.texts(".chart details tbody td:nth-child(6)"), greatest
    plot = browser.one(".u-over")
    browser.traffic()
    actions = ActionChains(browser.driver)
    actions.move_to_element_with_offset(plot, 40, 0).click_and_hold()
    actions.move_by_offset(60, 0).release().perform()
    browser.until(lambda: "from" in parameters(browser))
    browser.until(lambda: "every point" in browser.texts(".note")[0])
    assert any("from=" in url for url in browser.traffic().urls)
    browser.one(".chart figcaption button").click()
    browser.until(lambda: "from" not in parameters(browser))


def test_values_can_be_read_from_a_chart_by_keys(browser, address):
    browser.open(f"{address}runs/run0", until=".u-over")
    browser.run("document.querySelector('.plot').focus()")
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    browser.until(lambda: browser.texts("#said")[0].startswith("step 2: moe_parity 1.902"))


def test_values_that_are_not_finite_are_marked_and_counted(browser, address):
    browser.open(f"{address}runs/spiky?pin=broken", until=".u-over")
    browser.until(lambda: "2 values that are NaN or infinite" in browser.texts(".note")[0])


# --------------------------------------------------------------------------------- other pages


def test_a_slider_goes_through_the_evaluations_of_experts(browser, address):
    page = f"{address}runs/paths/experts?array=path_usage"
    browser.open(page, until="canvas[aria-label^='Load over time']")
    assert browser.texts("output") == ["step 300"]
    browser.run("document.getElementById('step').focus()")
    browser.press(Keys.ARROW_LEFT)
    assert browser.texts("output") == ["step 200"]
    assert parameters(browser)["step"] == "200"
    browser.run("document.querySelector('#page details').open = true")
    browser.until(lambda: len(browser.texts("#page details tbody tr")) == 2)
    assert [text.partition(":")[0] for text in browser.texts(".flags li")] == [
        "dead experts",
        "waives batch independent",
    ]


def test_differences_to_a_base_say_whether_they_are_better(browser, address):
    page = f"{address}compare?run=run0&run=run1&base=run1"
    browser.open(page, until="[aria-label='Metrics'] td")
    scores = dict(
        zip(
            browser.texts("[aria-label='Metrics'] tbody th"),
            browser.texts("[aria-label='Metrics'] tbody td:nth-child(2)"),
            strict=True,
        )
    )
    assert scores["final_val_f1"] == "0.5 \N{MINUS SIGN}0.05 ✗"
    assert scores["final_val_loss"] == "1 \N{MINUS SIGN}0.1 ✓"
    assert scores["tokens_seen"] == "2,496 ="
    shown = "[aria-label='Configuration'] tbody th"
    assert browser.texts(shown) == ["model_type", "model_params.top_k"]
    (everything,) = [each for each in browser.all("label") if "equal too" in each.text]
    everything.click()
    assert "optimizer_params.lr" in browser.texts(shown)
    assert len(browser.all(".differs")) == 2


def test_ranges_on_axes_choose_trials(browser, address):
    browser.open(f"{address}studies/search", until=".brush")
    before = browser.texts("section[aria-label='trials'] h2")
    assert before == ["Trials (40)"]
    browser.run("document.querySelector('.brush').focus()")
    for _ in range(8):
        browser.press(Keys.ARROW_UP)
    browser.until(lambda: browser.texts("section[aria-label='trials'] h2") != before)
    browser.press(Keys.DELETE)
    browser.until(lambda: browser.texts("section[aria-label='trials'] h2") == before)


def test_a_live_run_grows_on_the_page(browser, serve, tmp_path):
    file = tmp_path / "live.db"
    with Store.open(file, create=True) as store:
        run = store.start(new_run("live", experiment_name="live"))
        for step in range(10):
            run.log({"val_loss": 1.0 / (step + 1)}, step=step)
        run.flush()
        with serve(file) as (address, _):
            browser.open(f"{address}runs/live", until=".u-over")
            browser.until(lambda: "10 points" in browser.texts(".note")[0])
            browser.until(lambda: browser.texts("#live") == ["● live"])
            more = iter(range(10, 10_000))

            def grown():
                run.log({"val_loss": 0.5}, step=next(more))
                run.flush()
                return "10 points" not in browser.texts(".note")[0]

            browser.until(grown)
            run.finish(RunStatus.COMPLETED)
            browser.until(lambda: "completed" in browser.texts(".status")[0])
            assert browser.complaints() == []


APPEND = """
const [address, curve, news, done] = arguments;
import(address).then(({ append }) => done([append(curve, news), curve]), (error) => done(error));
"""


def test_news_of_a_long_run_join_their_buckets(browser, address):
    """What a page makes of old buckets and news is what the database would say of all points."""
    browser.open(f"{address}help", until="kbd")
    style = browser.one("link[rel=stylesheet]").get_attribute("href")
    module = style.replace("style.css", "lib/append.js")
    values = [float(step % 7) for step in range(50)] + [None, 3.0, 9.0]
    buckets = [values[start : start + 10] for start in range(0, 50, 10)]
    old = {
        "width": 10,
        "points": 45,
        "steps": [0, 10, 20, 30, 40],
        "mean": [sum(part) / len(part) for part in [*buckets[:4], values[40:45]]],
        "minimum": [min(part) for part in [*buckets[:4], values[40:45]]],
        "maximum": [max(part) for part in [*buckets[:4], values[40:45]]],
        "counts": [10, 10, 10, 10, 5],
        "nonfinite": [],
    }
    later = values[45:]
    news = {
        "is_delta": True,
        "cursor": "1.52.53",
        "steps": list(range(45, 53)),
        **dict.fromkeys(("mean", "minimum", "maximum"), later),
        "counts": [1] * 8,
        "nonfinite": [int(value is None) for value in later],
    }
    joined, curve = browser.driver.execute_async_script(APPEND, module, old, news)
    assert joined
    assert curve["steps"] == [0, 10, 20, 30, 40, 50]
    assert curve["mean"] == pytest.approx([*(sum(part) / 10 for part in buckets), 6.0])
    assert curve["minimum"][4:] == [min(buckets[4]), 3.0]
    assert curve["maximum"][4:] == [max(buckets[4]), 9.0]
    assert curve["counts"] == [10] * 5 + [3]
    assert curve["nonfinite"] == [[5, 1]]
    assert (curve["points"], curve["cursor"]) == (53, "1.52.53")
    resumed = news | {"is_delta": False}
    assert browser.driver.execute_async_script(APPEND, module, old, resumed)[0] is False


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    file = tmp_path_factory.mktemp("crowd") / "runs.db"
    with Store.open(file, create=True) as store:
        fill_crowd(store, 1000, [10_000, 10_000, *[500] * 8])
    return file


MOST_REQUESTS = 12
MOST_BYTES = 250_000
MOST_ROWS = 100


def test_a_thousand_runs_cost_little_and_all_are_there(browser, serve, crowd):
    with serve(crowd) as (address, _):
        browser.open(f"{address}runs", until=".u-over")
        browser.until(lambda: "24,000" in browser.texts(".note")[0])
        traffic = browser.traffic()
        assert len(traffic.urls) <= MOST_REQUESTS, traffic.urls
        assert traffic.bytes <= MOST_BYTES
        assert browser.texts("#count") == ["1,000 runs"]
        assert browser.one(".virtual").get_attribute("aria-rowcount") == "1001"
        assert len(browser.all(".virtual tbody tr")) < MOST_ROWS
        browser.run("document.querySelector('#table .scroller').scrollTop = 1e6")
        browser.until(lambda: "run 0" in rows(browser))
        assert len(browser.all(".virtual tbody tr")) < MOST_ROWS
        assert browser.complaints() == []
