"""The report page in a real browser: pointed at, clicked, tabbed to, sorted, and fitted to narrow and wide windows."""

import shutil

import pytest

from compiler.report.html import render_report
from tests.fleet import Desk, write_model, write_run
from tests.report_sample import sample_evaluated, sample_front

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on the path"),
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver on the path"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_text(render_report(sample_front(), sample_evaluated()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    _resize(browser, 1600)
    browser.get(address)
    _wait(browser, lambda: browser.find_elements("css selector", "#chart .mark"))
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}] == []


def _resize(browser, width, height=1000):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 10).until(lambda _: condition())


def _mark(page, name):
    return page.find_element("css selector", f'.mark[data-id="{name}"]')


def _tooltip(page):
    tooltip = page.find_element("id", "tooltip")
    _wait(page, tooltip.is_displayed)
    return tooltip.text


def _shown(page):
    return [detail for detail in page.find_elements("css selector", ".detail") if detail.is_displayed()]


def _hover(page, name):
    from selenium.webdriver import ActionChains

    ActionChains(page).move_to_element(_mark(page, name).find_element("css selector", ".ring")).perform()


def test_pointing_at_a_candidate_shows_its_numbers(page):
    _hover(page, "c03")
    words = _tooltip(page)
    assert words.startswith("c03")
    for expected in ("mean cosine, test", "predicted (interpolated)", "measured p50", "speed-up"):
        assert expected in words


def test_pointing_at_a_predicted_candidate_says_so(page):
    assert "hollow" in _mark(page, "c08").get_attribute("class")
    _hover(page, "c08")
    assert "not measured" in _tooltip(page)


def test_clicking_a_candidate_shows_its_details(page):
    from selenium.webdriver import ActionChains

    assert _shown(page)[0].get_attribute("data-id") == "c05"
    ActionChains(page).move_to_element(_mark(page, "c03").find_element("css selector", ".ring")).click().perform()
    (detail,) = _shown(page)
    assert detail.get_attribute("data-id") == "c03"
    for expected in ("c03/model.onnx", "120 samples", "dropped", "batch 8", "neighbour overlap at 10", "parity error"):
        assert expected in detail.text
    layer = detail.find_element("css selector", '[aria-label="layer 1: 8 of 12 heads"]')
    assert layer.size["width"] > 60


def test_a_candidate_is_chosen_from_the_keyboard(page):
    from selenium.webdriver import ActionChains, Keys

    names = [mark.get_attribute("data-id") for mark in page.find_elements("css selector", "#chart .mark")]
    page.find_element("css selector", "body").send_keys(Keys.TAB)
    _wait(page, lambda: page.switch_to.active_element.get_attribute("data-id") == names[0])
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert _tooltip(page).startswith(names[1])
    ActionChains(page).send_keys(Keys.ENTER).perform()
    assert _shown(page)[0].get_attribute("data-id") == names[1]
    assert _mark(page, names[1]).get_attribute("aria-pressed") == "true"


def test_the_table_sorts_and_selects(page):
    def order():
        return [row.get_attribute("data-id") for row in page.find_elements("css selector", "#candidates tbody tr")]

    by_measured = page.find_elements("css selector", "#candidates thead button")[5]
    by_measured.click()
    assert order()[0] == "c09"
    assert order()[-1] == "c08", "what was not measured comes last in either direction"
    by_measured.click()
    assert order()[0] == "dense"
    assert order()[-1] == "c08"
    page.find_element("css selector", '#candidates tr[data-id="c01"] .pick').click()
    assert _shown(page)[0].get_attribute("data-id") == "c01"


@pytest.mark.parametrize("width", [360, 768, 1100, 1600])
def test_the_page_fits_the_window(page, address, width):
    _resize(page, width)
    page.get(address)
    chart = _wait(page, lambda: page.find_element("css selector", "#chart svg"))
    scroll, inner = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert scroll <= inner
    assert chart.size["width"] <= width


def test_the_chart_follows_the_window(page):
    wide = page.find_element("css selector", "#chart svg").size["width"]
    _resize(page, 500)
    _wait(page, lambda: page.find_element("css selector", "#chart svg").size["width"] < min(500, wide))
    assert _mark(page, "c05").is_displayed()


@pytest.mark.parametrize("width", [500, 1600])
def test_the_page_of_a_fleet_is_searched_and_sorted(browser, tmp_path, width):
    write_model(tmp_path / "enc")
    entries = "".join(
        f'[[entry]]\nname = "{name}"\nmodel = "enc"\ntargets = ["cpu", "null"]\n' for name in ("one", "two")
    )
    desk = Desk(tmp_path, entries)
    desk.answers = {
        name: [write_run(tmp_path / "made", speedup)] for name, speedup in (("one-cpu", 3), ("two-null", 11))
    }
    desk.start()
    _resize(browser, width)
    browser.get((desk.out / "fleet.html").as_uri())

    def shown():
        rows = browser.find_elements("css selector", "#entries tbody tr")
        return [row.find_element("css selector", "th").text for row in rows if row.is_displayed()]

    assert shown() == ["one-cpu", "one-null", "two-cpu", "two-null"]
    assert "ago" in browser.find_element("css selector", "#entries time").text
    browser.find_elements("css selector", "#entries thead button")[7].click()
    assert shown()[2:] == ["one-cpu", "two-null"], "by speed-up, as numbers"
    browser.find_element("id", "search").send_keys("NULL tw")
    assert shown() == ["two-null"]
    assert browser.find_element("id", "found").text == "1 of 4"
    scroll, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert scroll <= inner
    assert [entry for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}] == []
