"""The inspection report in a real browser: Chromium, without a window."""

import json
import os
import shutil

import numpy as np
import pytest

from sklearn_ncae.baselines import MeanBrightnessDetector
from sklearn_ncae.inspection import write_report
from sklearn_ncae.metrics import detection_scores_from_predictions

selenium = pytest.importorskip(
    "selenium", reason='selenium is missing: pip install "sklearn-ncae[test-browser]"'
)

EVIL = """test/<script>window.evil = 1</script>'"><img src=x onerror="window.evil=2">&amp;.png"""
COSTS = {"missed_defect": 7.0, "false_alarm": 2.0}


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium with chromedriver found: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless=new",
        "disable-gpu",
        "disable-dev-shm-usage",
        "window-size=1200,1000",
    ):
        options.add_argument(f"--{argument}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to start for root otherwise
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as driver:
        yield driver


class Scored(MeanBrightnessDetector):
    """Scores an image by its first pixel, and marks the brightest ones."""

    def score_samples(self, X):
        return X[:, 0, 0].astype(np.float64)

    def defect_map(self, X):
        return (X > 200).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    """150 images that score 0 ... 149; of the 30 defects most score low."""
    images = np.full((150, 12, 16), 100, np.uint8)
    images[:, 4:6, 4:9] = 220
    images[:, 0, 0] = np.arange(150)
    labels = np.ones(150, int)
    labels[[*range(25), 60, 70, 80, 90, 100]] = -1
    labels[[3, 7]] = 1
    return images, labels


@pytest.fixture
def page(browser, images, tmp_path_factory):
    """The page of all images with labels; afterwards there must be no error and no request."""
    X, y = images
    names = [f"part_{i:03d}.png" for i in range(150)]
    names[1] = EVIL
    detector = Scored().fit(X)
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path, detector, X, y, names=names, threshold=20.5, costs=COSTS, summary={EVIL: EVIL}
    )
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in requested if not url.startswith("data:")} == {path.as_uri()}
    assert browser.execute_script("return window.evil") is None


def figure(page, name):
    text = page.find_element("css selector", f"[data-figure={name}] b").text
    return float(text.replace(",", ""))


def figures_at(threshold, images):
    y = images[1]
    flagged = np.arange(150) < threshold
    alarms, missed = np.sum(flagged & (y == 1)), np.sum(~flagged & (y == -1))
    cost = 1000 * (COSTS["missed_defect"] * missed + COSTS["false_alarm"] * alarms) / 150
    return {"flagged": flagged.sum(), "alarms": alarms, "missed": missed, "cost": round(cost, 1)}


def check_figures(page, images):
    threshold = float(page.find_element("id", "threshold").get_attribute("value"))
    for name, value in figures_at(threshold, images).items():
        assert figure(page, name) == pytest.approx(value, abs=0.051), name
    return threshold


def cards(page):
    return page.find_elements("css selector", ".card")


def names_of(page):
    return [
        card.find_element("css selector", "bdi").get_attribute("textContent")
        for card in cards(page)
    ]


def choose(page, element_id, value):
    page.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}))",
        element_id,
        value,
    )


def wait_for(page, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 5, poll_frequency=0.05).until(lambda _: condition())


def press(page, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def focused(page, attribute):
    return page.switch_to.active_element.get_attribute(attribute)


def test_it_opens_with_the_figures_of_the_model(page, images):
    assert check_figures(page, images) == 20.5
    assert page.find_element("id", "facts").text.startswith("150 images")
    assert names_of(page)[0] == "part_000.png" and len(cards(page)) >= 60
    figures = detection_scores_from_predictions(images[1], np.arange(150) - 20.5)
    assert f"area {figures['roc_auc']:.3f}" in page.find_element("id", "roc-text").text
    assert f"precision {figures['prc_auc']:.3f}" in page.find_element("id", "pr-text").text


def test_dragging_the_threshold_changes_the_counts(page, images):
    from selenium.webdriver import ActionChains

    page.execute_script(
        "window.seen = [];"
        "const figure = name => document.querySelector(`[data-figure=${name}] b`);"
        "new MutationObserver(() => seen.push([document.getElementById('threshold').value,"
        "  ...['flagged', 'alarms', 'missed'].map(name => figure(name).textContent)].map(Number)))"
        ".observe(document.getElementById('figures'), {childList: true})"
    )
    drag = ActionChains(page).move_to_element(page.find_element("id", "histogram"))
    drag.click_and_hold()
    for _ in range(3):
        drag.move_by_offset(60, 0)
    drag.release().move_by_offset(60, 0).perform()
    seen = page.execute_script("return seen")  # the figures followed while the button was down
    assert len(seen) == 4 and np.all(np.diff([threshold for threshold, *_ in seen]) > 0)
    for threshold, *counts in seen:
        expected = figures_at(threshold, images)
        assert counts == [expected[name] for name in ("flagged", "alarms", "missed")]
    check_figures(page, images)
    choose(page, "by-decision", "flagged")
    wait_for(
        page,
        lambda: (
            f"of {int(figure(page, 'flagged'))} images" in page.find_element("id", "shown").text
        ),
    )


def test_the_threshold_by_keyboard_slider_number_and_cost(page, images):
    from selenium.webdriver.common.keys import Keys

    slider = page.find_element("id", "slider")
    before = check_figures(page, images)
    slider.send_keys(Keys.ARROW_RIGHT, Keys.PAGE_UP)
    after = check_figures(page, images)
    assert after > before
    assert "false alarms" in slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.ARROW_LEFT, Keys.PAGE_DOWN)
    assert check_figures(page, images) == pytest.approx(before)
    choose(page, "slider", "30")
    assert check_figures(page, images) == pytest.approx(30, abs=0.01)
    choose(page, "threshold", "12.5")
    assert check_figures(page, images) == 12.5
    wait_for(
        page,
        lambda: "flagged" in page.find_element("id", "announcement").get_attribute("textContent"),
    )
    page.find_element("id", "reset").click()
    assert check_figures(page, images) == 20.5
    page.find_element("id", "cheapest").click()
    cheapest = min(figures_at(t + 0.5, images)["cost"] for t in range(-1, 150))
    check_figures(page, images)
    assert figure(page, "cost") == pytest.approx(cheapest, abs=0.051)
    choose(page, "cost-missed", "700")
    page.find_element("id", "cheapest").click()
    assert figure(page, "missed") == 0
    page.find_element("id", "zoom").click()
    assert page.find_element("id", "zoom").get_attribute("aria-pressed") == "true"


def test_filters(page, images):
    y = images[1]
    choose(page, "by-decision", "missed")
    wait_for(page, lambda: len(cards(page)) == figure(page, "missed"))
    choose(page, "by-decision", "alarm")
    assert names_of(page) == ["part_003.png", "part_007.png"]
    choose(page, "by-decision", "")
    choose(page, "by-label", "-1")
    assert len(cards(page)) == np.sum(y == -1)
    choose(page, "by-name", "PART_00")
    assert names_of(page) == [f"part_{i:03d}.png" for i in (0, 2, 4, 5, 6, 8, 9)]
    choose(page, "order", "best")
    assert names_of(page)[0] == "part_009.png"
    choose(page, "by-name", "no such name")
    assert cards(page) == [] and "No image" in page.find_element("id", "shown").text
    choose(page, "by-name", "")
    choose(page, "by-label", "")
    choose(page, "order", "near")
    assert set(names_of(page)[:2]) == {"part_020.png", "part_021.png"}
    choose(page, "order", "name")
    assert names_of(page)[:2] == ["part_000.png", "part_002.png"]


def test_images_are_made_as_they_are_needed(page):
    assert len(cards(page)) < 150
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    wait_for(page, lambda: len(cards(page)) > 60)
    while page.find_element("id", "more").is_displayed():
        page.execute_script("document.getElementById('more').click()")
    assert len(cards(page)) == 150


def test_names_are_inert(page):
    choose(page, "by-name", "<script>")
    (card,) = cards(page)
    assert names_of(page) == [EVIL]
    card.click()
    assert page.find_element("id", "viewer-name").text == EVIL
    assert page.find_element("css selector", "#summary dt").text == EVIL
    assert page.find_elements("css selector", "#cards script, #viewer script, #summary img") == []
    assert page.find_elements("css selector", "img[onerror]") == []


def test_the_keyboard_reaches_everything(page):
    from selenium.webdriver.common.keys import Keys

    cards(page)[0].send_keys(Keys.ARROW_RIGHT)
    assert focused(page, "data-image") == "1"
    press(page, Keys.ARROW_DOWN)
    columns = int(focused(page, "data-image")) - 1
    assert 2 <= columns <= 12
    press(page, Keys.ARROW_UP, Keys.HOME, Keys.ARROW_LEFT)
    assert focused(page, "data-image") == "0"
    press(page, Keys.END)
    assert focused(page, "data-image") == "149"
    assert len(page.find_elements("css selector", ".card[tabindex='0']")) == 1
    press(page, Keys.HOME, Keys.ENTER)
    viewer = page.find_element("id", "viewer")
    assert viewer.get_attribute("open") is not None
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.find_element("id", "viewer-name").text == "part_002.png"
    facts = page.find_element("id", "viewer-facts").text
    assert "defect found" in facts and "threshold 20.5" in facts
    press(page, "o")
    assert page.find_element("id", "viewer-overlay").is_selected()
    press(page, Keys.ESCAPE)
    wait_for(page, lambda: focused(page, "data-image") == "2")
    assert viewer.get_attribute("open") is None
    press(page, "/")
    assert focused(page, "id") == "by-name"
    press(page, "oo")  # typing is no command
    assert page.find_element("id", "overlay").is_selected()
    names = [
        element.accessible_name
        for element in page.find_elements("css selector", "input, select, button")
        if element.is_displayed()
    ]
    assert names and all(names)


def test_deviations_are_marked_on_hover_and_by_the_switch(page):
    from selenium.webdriver import ActionChains

    def opacity(card):
        return card.find_element("css selector", ".map").value_of_css_property("opacity")

    first, second = cards(page)[:2]
    assert opacity(first) == "0"
    ActionChains(page).move_to_element(first).perform()
    assert (opacity(first), opacity(second)) == ("1", "0")
    page.find_element("id", "overlay").click()
    assert opacity(second) == "1"


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(page, width, scheme):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        color = page.find_element("tag name", "body").value_of_css_property("background-color")
        brightness = float(color.split("(")[1].split(",")[0])
        assert (brightness < 100) == (scheme == "dark")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_prints(page):
    import base64

    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 10_000


def test_without_labels_maps_and_with_bad_files(browser, tmp_path, images):
    from PIL import Image

    X, _ = images
    files = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, file in enumerate(files[:2]):
        Image.fromarray(X[i]).save(file)
    detector = Scored().fit(X)
    detector.image_shape_ = (12, 16, 1)
    path = write_report(tmp_path / "report.html", detector, files, threshold=0.5)
    browser.get_log("browser")
    browser.get(path.as_uri())
    assert (figure(browser, "flagged"), figure(browser, "passed")) == (1, 1)
    assert "1 file could not be read" in browser.find_element("id", "warning").text
    assert files[2] in browser.find_element("id", "errors").text
    for hidden in ("curves", "costs", "by-label", "cheapest", "leaks"):
        assert not browser.find_element("id", hidden).is_displayed()
    path = write_report(tmp_path / "none.html", detector, files[2:], threshold=0.5)
    browser.get(path.as_uri())
    assert not browser.find_element("id", "gallery").is_displayed()
    assert browser.get_log("browser") == []
