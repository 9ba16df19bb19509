"""The page of the service in headless Chromium: drop, paste, several pictures, bad ones, a server that is gone."""

import os
import re
from pathlib import Path

import pytest

from tests.deploy.serving.chromium import CHROMIUM, Chromium
from tests.deploy.serving.fake_service import CARD, PAGE, FakeService, write_pictures

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
TEXT = PAGE.read_text(encoding="utf-8")
DONE = "![...document.querySelectorAll('#pictures > li')].some(one => one.getAttribute('aria-busy') === 'true')"
CARDS = "[...document.querySelectorAll('#pictures > li')].map(one => one.innerText)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def service():
    service = FakeService()
    yield service
    service.close()


def cards(page, number: int) -> list[str]:
    """The texts of all pictures, when each has its answer."""
    page.wait_for(f"document.querySelectorAll('#pictures > li').length === {number} && {DONE}")
    return page.run(CARDS)


def keep_screenshot(page, name: str) -> None:
    """For whoever wants to look at the page: SCREENSHOTS=FOLDER pytest tests/deploy/serving/test_page.py."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.run("Promise.all([...document.images].map(one => one.decode().catch(() => 0)))")
        page.screenshot(Path(folder) / f"{name}.png")


def test_the_page_loads_nothing_from_elsewhere():
    assert not re.search(r"""(src|href|url|import)\s*[=(]?\s*["']?(https?:)?//""", TEXT)
    assert "default-src 'none'" in TEXT and "innerHTML" not in TEXT
    assert re.findall(r'href="([^"]+)"', TEXT) == ["data:,"]


def test_both_languages_have_the_same_texts():
    english, chinese = (
        set(re.findall(r"[{,]\s+(\w+):", block))
        for block in re.findall(r"\n  (?:en|zh): \{(.*?)\n  \},", TEXT, re.DOTALL)
    )
    assert len(english) > 40
    assert english == chinese


@needs_chromium
def test_a_dropped_picture_is_answered(browser, service, pictures):
    page = browser.page(service.url)
    keep_screenshot(page, "empty")
    page.drop(pictures["wood.jpg"])
    [text] = cards(page, 1)
    assert service.received == [pictures["wood.jpg"].read_bytes()]  # as it is: the service prepares it, not the browser
    assert [line for line in text.splitlines() if line][:7] == [
        "wood.jpg", "wood <b>", "87.3%", "brick", "10.0%", "grass", "2.7%",
    ]  # fmt: skip
    assert "14 ms in the service (waiting 0.4, reading 2.3, computing 11)" in text
    assert page.run("document.querySelector('.bar').style.width") == "87.34%"
    assert page.run("document.getElementById('status').textContent") == "1 picture classified."
    facts = page.run("document.getElementById('facts').innerText")
    for fact in (
        "surfaces",
        "PeleeNet",
        "ONNX Runtime",
        "224 × 224, the centre is cut out",
        "97.4 %",
        "temperature 1.40",
    ):
        assert fact in facts
    assert page.run("document.getElementById('names').children[4].textContent") == "wood <b>"


@needs_chromium
def test_several_pictures_good_and_bad(browser, service, pictures):
    page = browser.page(service.url)
    page.choose(*pictures.values())
    texts = {text.splitlines()[0] or text.splitlines()[1]: text for text in cards(page, 7)}
    assert {name for name, text in texts.items() if "87.3%" in text} == {"wood.jpg", "brick wall.png", "grass.jpg"}
    assert "cannot be read as a picture" in texts["broken.jpg"] and "not an image in a format" in texts["broken.jpg"]
    assert "too large for the service: 12 MB" in texts["huge.jpg"]
    assert "empty or is a folder" in texts["empty.jpg"]
    assert "The service failed at this picture." in texts["crash.jpg"] and "0123456789abcdef" in texts["crash.jpg"]
    assert "Try again" in texts["crash.jpg"] and "Try again" not in texts["broken.jpg"]
    assert page.run("document.getElementById('status').textContent") == "3 pictures classified, 4 not."
    keep_screenshot(page, "several")
    page.run("document.getElementById('remove').click()")
    assert page.run("document.querySelectorAll('#pictures > li').length") == 0
    assert page.run("document.activeElement.id") == "choose"


@needs_chromium
def test_a_limit_of_the_card_is_told_before_the_upload(browser, pictures):
    service = FakeService(card={"model": "surfaces", "limits": {"max_body_bytes": 3 << 19}})
    page = browser.page(service.url)
    page.wait_for("!document.getElementById('card').hidden")
    page.choose(pictures["huge.jpg"])
    [text] = cards(page, 1)
    assert "too large: 12 MB. The service takes at most 1.5 MB." in text
    assert service.received == []
    service.close()


@needs_chromium
def test_another_model_answers_for_all_pictures(browser, pictures):
    service = FakeService(card={**CARD, "models": ["surfaces", "a&b"]})
    page = browser.page(service.url)
    page.wait_for("!document.getElementById('choice').hidden")
    page.choose(pictures["wood.jpg"])
    cards(page, 1)
    page.run("const box = document.getElementById('models'); box.value = 'a&b'; box.dispatchEvent(new Event('change'))")
    page.wait_for(f"document.getElementById('facts').innerText.includes('a&b') && {DONE}")
    page.wait_for("document.getElementById('models').value === 'a&b'")
    assert service.queries == ["", "model=a%26b"]
    service.close()


@needs_chromium
def test_another_model_that_is_chosen_before_the_answers_of_the_first(browser, pictures):
    """The first model answers half a second later than it is asked."""
    service = FakeService(card={**CARD, "models": ["surfaces", "a&b"]})
    page = browser.page(service.url)
    page.wait_for("!document.getElementById('choice').hidden")
    page.run(
        "const send = window.fetch; window.fetch = async (url, options) => { const answer = await send(url, options);"
        "if (!url.includes('?')) await pause(0.5); return answer; }"
    )
    page.choose(pictures["wood.jpg"])
    page.run("readCard(); pause(0.2)")
    assert service.queries == [""]
    page.run("at('models').value = 'a&b'; at('models').onchange()")
    page.wait_for(DONE)
    page.run("pause(0.5)")
    assert service.queries == ["", "model=a%26b"]
    assert page.run("card.model") == "a&b"
    service.close()


@needs_chromium
def test_a_busy_service_is_asked_again(browser, pictures):
    service = FakeService(num_busy=1)
    page = browser.page(service.url)
    page.choose(pictures["wood.jpg"])
    page.wait_for("document.body.innerText.includes('The service is busy. Next try in 1 s')")
    assert "87.3%" in cards(page, 1)[0]
    service.close()


@needs_chromium
def test_a_service_that_is_gone_and_comes_back(browser, pictures):
    service = FakeService()
    page = browser.page(service.url)
    page.wait_for("!document.getElementById('card').hidden")
    service.close()
    page.choose(pictures["wood.jpg"], pictures["grass.jpg"])
    for text in cards(page, 2):
        assert "The service cannot be reached. Is it still running?" in text
    keep_screenshot(page, "gone")
    back = FakeService(port=service.port)
    page.run("document.getElementById('again').click()")
    page.wait_for(f"document.body.innerText.includes('2 pictures classified.') && {DONE}")
    assert page.run("document.activeElement.id") == "status"
    back.close()


@needs_chromium
def test_a_token_is_asked_for_and_used(browser, pictures):
    service = FakeService(token="right")
    page = browser.page(service.url)
    page.wait_for("document.activeElement.id === 'token-value'")
    page.choose(pictures["wood.jpg"])
    assert "asks for a token" in cards(page, 1)[0]
    keep_screenshot(page, "token")
    for word, is_right in (("wrong", False), ("не то", False), ("right", True)):
        page.run("document.getElementById('token-value').value = ''; document.getElementById('token-value').focus()")
        page.call("Input.insertText", text=word)
        page.press("Enter")
        page.wait_for(f"document.getElementById('token').hidden === {str(is_right).lower()} && {DONE}")
        assert ("refused this token" in page.run("document.body.innerText")) is not is_right
    page.wait_for("document.body.innerText.includes('87.3%')")
    assert page.run("document.getElementById('card').hidden") is False
    assert page.run("document.cookie + localStorage.length + sessionStorage.length") == "00"
    service.close()


@needs_chromium
def test_a_pasted_picture_is_answered_and_a_pasted_text_is_left_alone(browser, service):
    page = browser.page(service.url)
    paste = (
        "(() => { const data = new DataTransfer(); %s;"
        "return dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, cancelable: true})); })()"
    )
    file = "data.items.add(new File([new Uint8Array([137, 80, 78, 71])], 'image.png', {type: 'image/png'}))"
    assert page.run(paste % "data.setData('text/plain', 'words')") is True
    assert page.run(paste % file) is False
    assert "87.3%" in cards(page, 1)[0]
    assert service.received == [b"\x89PNG"]


@needs_chromium
def test_everything_is_reached_by_the_keyboard_and_has_a_name(browser, service, pictures):
    page = browser.page(service.url)
    page.choose(pictures["wood.jpg"], pictures["crash.jpg"])
    cards(page, 2)
    reached = []
    for _ in range(7):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.innerText"))
    assert reached[:4] == ["language", "choose", "remove", "Try again"]
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] in ("button", "textbox", "status", "heading", "region")
    }
    assert all(name for role, name in named if role in ("button", "textbox", "heading", "region"))
    assert {("button", "Choose pictures"), ("button", "Try again: crash.jpg"), ("heading", "wood.jpg")} <= named
    assert page.run("document.getElementById('status').ariaLive") == "polite"


@needs_chromium
@pytest.mark.parametrize(("width", "is_touch"), [(390, True), (1280, False)])
def test_the_page_fits_the_screen(browser, service, pictures, width, is_touch):
    page = browser.page(service.url, width, 844, is_touch=is_touch)
    page.choose(*list(pictures.values())[:4])
    cards(page, 4)
    assert page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.run("document.getElementById('photograph').hidden") is not is_touch
    heights = page.run("[...document.querySelectorAll('button, input')].map(one => one.offsetHeight).filter(Boolean)")
    assert min(heights) >= 44  # of a finger's size
    keep_screenshot(page, f"width_{width}")
    page.run("document.getElementById('language').click()")
    assert page.run("document.documentElement.lang") == "zh-CN"
    assert "已分类 3 张图片，1 张失败。" in page.run("document.body.innerText")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    keep_screenshot(page, f"width_{width}_dark_chinese")


@needs_chromium
def test_the_service_itself_answers_the_page(browser, pictures, tmp_path):
    """Its routes, its headers, and a body above its limit, of which the page is told only by the answer."""
    pytest.importorskip("uvicorn")
    from tests.deploy.serving.service_in_thread import service_in_thread

    (tmp_path / "huge.jpg").write_bytes(b"\xff\xd8" + bytes(20 << 20))
    (tmp_path / "no.jpg").write_bytes(b"no")
    with service_in_thread() as service:
        page = browser.page(f"http://127.0.0.1:{service.port}/")
        page.wait_for("!document.getElementById('choice').hidden")
        assert page.run("megabytes(limit)") == "16 MB"
        page.run("limit = Infinity")
        page.choose(pictures["wood.jpg"], tmp_path / "huge.jpg", tmp_path / "no.jpg")
        good, huge, bad = cards(page, 3)
        assert "50.0%" in good and "ms in the service (waiting 1.0, reading 3.0, computing 2.0)" in good
        assert "This file is too large for the service: 20 MB." in huge
        assert "cannot be read as a picture" in bad and "not an image" in bad
        page.run("at('models').value = 'two'; at('models').onchange()")
        page.wait_for(f"at('facts').innerText.includes('two') && {DONE}")
        assert page.run("performance.getEntriesByType('resource').every(one => one.name.startsWith(location.origin))")
    page.run("again([pictures[0]])")
    page.wait_for("document.body.innerText.includes('The service cannot be reached')")
