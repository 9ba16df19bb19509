"""Headless Chromium by its DevTools protocol over a pipe: no driver, no WebSocket, only the browser itself."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions "
    "--disable-background-networking --disable-component-update --disable-sync --remote-debugging-pipe about:blank"
).split()
SECONDS = 20


class Chromium:
    """A browser; `page` opens a tab in it."""

    def __init__(self, folder: Path, language: str = "en"):
        """Start the browser with an empty profile below `folder`; `language` is that of navigator.language."""
        to_browser, self._write = _pipe()
        self._read, from_browser = _pipe()
        command = [CHROMIUM, *FLAGS[:-1], f"--user-data-dir={folder}", f"--accept-lang={language}", FLAGS[-1]]
        redirect = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, *command],
            pass_fds=(to_browser, from_browser),
            env={**os.environ, "HOME": str(folder), "LANGUAGE": language},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest = 0, b""

    def call(self, method: str, session: str | None = None, **arguments) -> dict:
        """The result of one command of the protocol; events that come before it are passed over."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            answer = self._next_message(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next_message(self, end: float) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def page(self, url: str, width: int = 1280, height: int = 900, *, is_touch: bool = False) -> "Page":
        """Open `url` in a tab of this size; `is_touch`: as on a telephone."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_touch}
        self.call("Emulation.setDeviceMetricsOverride", session, **size)
        if is_touch:
            self.call("Emulation.setTouchEmulationEnabled", session, enabled=True)
        page = Page(self, session)
        self.call("Page.navigate", session, url=url)
        page.wait_for("document.readyState === 'complete'")
        return page

    def close(self) -> None:
        """End the browser and all its processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)


class Page:
    """A tab of the browser."""

    def __init__(self, browser: Chromium, session: str):
        self._browser, self._session = browser, session

    def call(self, method: str, **arguments) -> dict:
        return self._browser.call(method, self._session, **arguments)

    def run(self, script: str):
        """The value of an expression in the page; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str, seconds: float = SECONDS) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition}\n{self.run('document.body.innerText')}"
            time.sleep(0.03)

    def choose(self, *paths: Path) -> None:
        """Choose files as in the dialog of the button."""
        node = self.call("Runtime.evaluate", expression="document.getElementById('files')")["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=list(map(str, paths)), objectId=node)

    def drop(self, *paths: Path) -> None:
        """Drop files on the page, as from a file manager."""
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=60, y=60, data=data)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press one key: Tab, Enter or a letter."""
        code = {"Tab": 9, "Enter": 13}.get(key, 0)
        text = {"Enter": "\r"}.get(key, "" if len(key) > 1 else key)
        where = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **where)
        self.call("Input.dispatchKeyEvent", type="keyUp", **where)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


def _pipe() -> tuple[int, int]:
    """The two ends of a pipe, as numbers above those that the browser reads from and writes to."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved
