"""By keyboard, on a telephone, in light and dark, in two languages, and by screen reader."""

from urllib.parse import quote

import pytest

pytestmark = pytest.mark.slow


def test_everything_by_keyboard_alone(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focus = "document.activeElement"
    assert page.evaluate(f"{focus}.className") == "photo"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    place = f"[...document.querySelectorAll('.hit')].indexOf({focus}.closest('.hit'))"
    assert page.evaluate(place) == 2
    outline = page.evaluate(f"getComputedStyle({focus}).outlineStyle")
    assert outline == "solid"
    page.searched(lambda: page.keyboard.press("Enter"))
    page.evaluate("document.querySelector('#results').focus()")
    for _ in range(20):  # past the votes
        page.keyboard.press("Tab")
        if page.evaluate(f"{focus}.className") == "photo":
            break
    for _ in range(4):
        page.keyboard.press("Tab")
    assert "Details of" in page.evaluate(f"{focus}.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#details[open]")
    page.keyboard.press("Escape")
    assert "Details of" in page.evaluate(f"{focus}.getAttribute('aria-label')")
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focus}.closest('.hit')") is None  # one stop, not one for each hit


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_telephones_width_has_nothing_to_scroll_sideways(open_page, folder, locale):
    options = {"width": 360, "height": 740, "has_touch": True, "is_mobile": True, "locale": locale}
    like = quote(f"{folder}/dahlia/whole.jpg", safe="")
    page = open_page(f"&like={like}", by="temple/whole.jpg", **options)
    page.evaluate("document.querySelector('#filters').open = true")
    wide = "all => all.filter(e => e.getBoundingClientRect().right > 360).map(e => e.outerHTML)"
    assert page.eval_on_selector_all("body *:not(.hidden-text)", wide) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.tap(".hit:nth-child(1) .tool:last-child")
    page.wait_for_selector("#details[open]")
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 360
    small = page.eval_on_selector_all(
        "main button, .query button",
        "all => all.map(b => b.getBoundingClientRect()).filter(r => r.width && r.height < 24)",
    )
    assert not small


def test_chinese_readers_get_chinese_and_can_switch(open_page):
    page = open_page(locale="zh-CN")
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.inner_text("h1") == "图库"
    words = "all => all.map(e => e.textContent || e.ariaLabel || e.placeholder)"
    marked = page.eval_on_selector_all("[data-text], [data-label], [data-placeholder]", words)
    assert all(marked)
    page.click("[data-language=en]")
    page.until("document.querySelector('h1').textContent === 'Gallery'")
    page.reload()
    page.settle()
    assert page.inner_text("h1") == "Gallery"


NAMELESS = """() => {
  const named = (e) => e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim()
    || e.ariaLabelledByElements?.length || e.alt;
  return [...document.querySelectorAll("a, button, input, select, summary, dialog, [role]")]
    .filter((e) => e.id !== "file" && !["status", "alert"].includes(e.role))
    .filter((e) => !named(e)).map((e) => e.outerHTML);
}"""


def test_every_control_has_a_name_and_every_part_its_landmark(open_page, folder):
    like = quote(f"{folder}/dahlia/whole.jpg", safe="")
    page = open_page(f"&fold=0.9&like={like}", by="temple/whole.jpg")
    assert page.evaluate(NAMELESS) == []
    doubled = """() => {
      const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
      return ids.filter((id, place) => ids.indexOf(id) !== place);
    }"""
    assert page.evaluate(doubled) == []
    assert page.locator("img:not([alt])").count() == 0
    assert [page.locator(part).count() for part in ("main", "header", "search", "h1")] == [1] * 4
    targets = page.eval_on_selector_all(
        "[aria-labelledby], [aria-describedby], label[for], output[for]",
        """all => all.flatMap((e) => ["aria-labelledby", "aria-describedby", "for"]
             .map((name) => e.getAttribute(name)).filter(Boolean))""",
    )
    assert all(page.locator(f"#{target}").count() for target in targets)
    assert page.get_attribute("#status", "aria-live") == "polite"


CONTRASTS = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim().slice(1);
    const parts = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const contrast = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = { "--ground": ["--ink", "--muted", "--accent"],
    "--surface": ["--ink", "--muted", "--accent"], "--sunken": ["--ink", "--muted", "--accent"],
    "--tint": ["--ink", "--muted", "--accent"], "--error-tint": ["--error"],
    "--accent": ["--on-accent"] };
  return Object.entries(texts).flatMap(([ground, inks]) =>
    inks.map((ink) => [`${ink} on ${ground}`, contrast(ink, ground)]))
    .concat([["edge", 1.5 * contrast("--edge", "--surface")]]);  // 3 is enough for borders
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(open_page, scheme):
    page = open_page(color_scheme=scheme)
    contrasts = dict(page.evaluate(CONTRASTS))
    assert {pair: ratio for pair, ratio in contrasts.items() if ratio < 4.5} == {}
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.split("(")[1].split(",")[0])
    assert (red > 200) == (scheme == "light")


def test_nothing_moves_for_those_who_ask_for_that(open_page):
    page = open_page(reduced_motion="reduce")
    moving = "getComputedStyle(document.querySelector('.tools')).transitionDuration"
    assert page.evaluate(moving) in ("0s", "")
