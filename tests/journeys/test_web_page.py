"""The page that posecascade-demo serves, in Chromium: poses compared with Python's, offline use, camera, errors."""

import contextlib
import http.server
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from exported import SCRIPTS, people
from image_files import jpeg, segment, tiff

import posecascade
from posecascade.inference.search import GRID

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which comes with the extra `dev`")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if not CHROMIUM:
    pytest.skip("needs Chromium", allow_module_level=True)

from web_pages import (  # noqa: E402  (needs playwright)
    SLOW,
    assert_equals_python,
    canvas,
    download,
    drop,
    poses_of,
    wait_for_error,
    wait_for_status,
    without_detector,
)

AXE = Path(__file__).resolve().parents[2] / "export" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 780}
CAMERA_SIZE, CAMERA_FRAMES = (320, 240), 5


@pytest.fixture(scope="module")
def demo(exported):
    """Run the installed command on the small export; yield its address, file and process."""
    file = exported.tflite("heatmaps", "float32")
    process = subprocess.Popen([SCRIPTS / "posecascade-demo", "--port=0", f"--model={file}"], text=True,
                               stdout=subprocess.PIPE)
    with process, ending(process):
        yield SimpleNamespace(url=re.search(r"http://\S+", process.stdout.readline())[0], file=file, process=process)


@contextlib.contextmanager
def ending(process):
    """Terminate the process at the end."""
    try:
        yield
    finally:
        process.terminate()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Write images of three rendered people (a rotated JPEG, a PNG, a transparent PNG) and a video for the camera."""
    folder = tmp_path_factory.mktemp("people")
    arrays = people(3)[0]
    files = [folder / name for name in ("one.jpg", "two.png", "three.png")]
    files[0].write_bytes(jpeg(np.rot90(arrays[0]), segment(b"Exif\0\0" + tiff(6)), quality=95))
    cv2.imwrite(str(files[1]), arrays[1][..., ::-1])
    alpha = np.tile(np.linspace(128, 255, arrays[2].shape[1]).astype(np.uint8), (arrays[2].shape[0], 1))
    cv2.imwrite(str(files[2]), np.dstack([arrays[2][..., ::-1], alpha]))
    planes = cv2.cvtColor(cv2.resize(arrays[1], CAMERA_SIZE), cv2.COLOR_RGB2YUV_I420).tobytes()
    head = f"YUV4MPEG2 W{CAMERA_SIZE[0]} H{CAMERA_SIZE[1]} F10:1 Ip A1:1 C420jpeg\n".encode()
    (folder / "film.y4m").write_bytes(head + CAMERA_FRAMES * (b"FRAME\n" + planes))
    return SimpleNamespace(files=files, film=folder / "film.y4m", folder=folder)


@pytest.fixture(scope="module")
def launched():
    """Return a function that starts Chromium with command line arguments."""
    with playwright.sync_playwright() as driver:
        yield lambda *words: driver.chromium.launch(executable_path=CHROMIUM, args=words)


@pytest.fixture(scope="module")
def chromium(launched, images):
    """Start the browser; its camera plays the video."""
    with launched("--use-fake-device-for-media-stream",
                  f"--use-file-for-fake-video-capture={images.film}") as browser:
        yield browser


@pytest.fixture
def opened(chromium):
    """Return a function that opens the page and waits until it is ready. An error in its code fails the test."""
    contexts, errors = [], []

    def open_page(url, **options):
        context = chromium.new_context(accept_downloads=True, **options)
        contexts.append(context)
        context.set_default_timeout(SLOW)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(url)
        wait_for_status(page, "Ready.")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


def test_poses_equal_python_s_and_no_image_is_sent(demo, opened, images):
    page = opened(demo.url)
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    lines = poses_of(page, *images.files)
    assert_equals_python(lines, demo.file, images.files)
    drop(page, images.files[0])
    wait_for_status(page, "keypoints:")
    assert download(page) == lines[:1]
    assert all(url.startswith((demo.url, "blob:")) for url in urls)
    assert page.evaluate("""() => new Promise(done => {
        document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        fetch("http://localhost:9/").catch(() => {});
    })""") == "connect-src"


def test_maps_table_and_occluded_keypoints_are_shown(demo, opened, images):
    page = opened(demo.url)
    page.get_by_label("Minimum score").fill("0")
    [line] = poses_of(page, images.files[1])
    table = np.array(list(line["keypoints"].values()))
    rows = page.locator("tbody tr")
    for k, (x, y, score, visibility) in enumerate(table):
        name, *shown, state = rows.nth(k).locator("th, td").all_inner_texts()
        assert name == list(line["keypoints"])[k].replace("_", " ")
        np.testing.assert_allclose([float(text) for text in shown], [x, y, score, visibility], atol=0.051)
        assert state == ("visible" if visibility >= 0.5 else "occluded")
    # The middle of a hollow keypoint is dark, that of a filled one has its color. The last keypoint is drawn on top.
    drawn = canvas(page, "skeleton")
    assert drawn.shape == cv2.imread(str(images.files[1])).shape
    x, y, _, visibility = table[-1]
    assert 0 <= x < drawn.shape[1] - 1 and 0 <= y < drawn.shape[0] - 1
    assert (drawn[round(y), round(x)].max() < 60) == (visibility < 0.5)

    parts, heatmaps = canvas(page, "parts"), canvas(page, "heatmaps")
    assert parts.std() > 10 and np.abs(parts.astype(int) - heatmaps).max() > 50
    page.get_by_role("button", name="neck").click()
    assert page.get_by_label("Keypoint", exact=True).input_value() == str(list(line["keypoints"]).index("neck"))
    assert (canvas(page, "parts") != parts).any()
    playwright.expect(page.locator("#panel-parts .value")).to_have_text(
        f"neck: {line['keypoints']['neck'][3]:.2f}.")
    for label, panel in (("Part maps", "parts"), ("Confidence maps", "heatmaps"), ("Skeleton", "skeleton")):
        playwright.expect(page.locator(f"#panel-{panel}")).to_be_visible()
        page.get_by_role("checkbox", name=label).uncheck()
        playwright.expect(page.locator(f"#panel-{panel}")).to_be_hidden()


def test_written_page_works_on_a_static_host_and_then_offline(demo, opened, images, tmp_path):
    subprocess.run([SCRIPTS / "posecascade-demo", f"--model={demo.file}", f"--output={tmp_path / 'poses'}"], check=True,
                   capture_output=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        page = opened(f"http://127.0.0.1:{host.server_port}/poses/")  # in a subfolder of the host
        assert_equals_python(poses_of(page, images.files[1]), demo.file, images.files[1:2])
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        host.shutdown()
    page.context.set_offline(True)
    page.reload()
    wait_for_status(page, "Ready.")
    assert_equals_python(poses_of(page, images.files[2]), demo.file, images.files[2:])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_is_accessible(demo, opened, images, scheme):
    page = opened(demo.url, viewport=PHONE, color_scheme=scheme)
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        if AXE.is_file():
            page.evaluate(AXE.read_text(encoding="utf-8"))
            results = page.evaluate("axe.run()")
            assert len(results["passes"]) > 10
            assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in results["violations"]] == []
        poses_of(page, images.files[0])
    page.locator("h1").click()
    reached = []  # by the Tab key, from the title to the last element
    while not reached or (reached[-1] != "device" and len(reached) < 60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value || "
                                     "document.activeElement.textContent"))
    keypoints = page.locator("tbody th").all_inner_texts()
    assert [name for name in reached if name and "\n" not in name] == [
        "file", "camera", "facing", "download", "skeleton", "parts", "heatmaps", "keypoint", "score",
        *keypoints, "device"]


def test_camera_is_processed_until_it_is_stopped(demo, opened, images):
    page = opened(demo.url, permissions=["camera"])
    page.get_by_role("button", name="Start the camera").click()
    playwright.expect(page.locator("#speed")).to_contain_text("frames a second", timeout=SLOW)
    wait_for_status(page, "keypoints:")
    page.locator("#speed").filter(has_text=re.compile(r"[1-9]\d* frames")).wait_for(timeout=SLOW)
    page.get_by_role("button", name="Stop the camera").click()
    lines = download(page)
    assert len(lines) > 1 and [line["image"] for line in lines] == [f"camera#{n}" for n in range(len(lines))]
    assert page.evaluate("document.querySelector('video').srcObject") is None
    # All frames are equal, so the first pose equals that of the image.
    frame = cv2.resize(cv2.imread(str(images.files[1]))[..., ::-1], CAMERA_SIZE)
    keypoints = np.array(list(lines[0]["keypoints"].values()))[:, :2]
    expected = posecascade.load(demo.file).predict(frame)
    confident = expected.scores > 0.4
    distances = np.linalg.norm(keypoints - expected.keypoints, axis=1)
    assert confident.any() and np.median(distances[confident]) < 6  # px: the video has half the resolution of color


def test_errors_are_one_line_and_the_page_goes_on(demo, exported, opened, images, tmp_path):
    page = opened(demo.url)
    (tmp_path / "notes.png").write_text("not an image")
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    wait_for_error(page, "Notes.png: cannot be decoded by this browser; save it as JPEG or PNG.")

    page.locator("#file").set_input_files(exported.tflite("keypoints", "float32"))
    wait_for_error(page, "Keypoints_float32.tflite: gives no maps, which this page shows; give the file of the same "
                         "export whose name begins with heatmaps.")

    damaged = bytearray(demo.file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.tflite").write_bytes(damaged)
    page.locator("#file").set_input_files(tmp_path / "damaged.tflite")
    wait_for_error(page, re.compile(
        r"^Damaged\.tflite: is damaged \(its SHA-256 begins with \w{12}, expected \w{12}\); "))

    page.get_by_role("button", name="Start the camera").click()  # permission was not granted
    wait_for_error(page, "The camera is blocked; allow it in the browser's settings for this page.")

    assert_equals_python(poses_of(page, images.files[0]), demo.file, images.files[:1])
    playwright.expect(page.locator("#error")).to_be_hidden()


def test_another_model_can_be_chosen_even_without_a_detector(demo, exported, opened, images, tmp_path):
    page = opened(demo.url)
    int8 = exported.tflite("heatmaps", "int8")
    page.locator("#file").set_input_files(int8)
    playwright.expect(page.locator("#model")).to_contain_text("heatmaps_int8.tflite, int8", timeout=SLOW)
    lines = poses_of(page, images.files[1])
    # If this OpenCV rounds a pixel differently, 8-bit maps can lead to another crop, one step of the grid away.
    assert_equals_python(lines, int8, images.files[1:2], close=max(lines[0]["box"][2:]) / GRID)

    (tmp_path / "blind.tflite").write_bytes(without_detector(tmp_path / "blind.keras"))
    page.locator("#file").set_input_files(tmp_path / "blind.tflite")
    wait_for_status(page, "This model has no part detector")
    playwright.expect(page.get_by_role("checkbox", name="Part maps")).to_be_disabled()
    playwright.expect(page.locator("#panel-parts")).to_be_hidden()
    playwright.expect(page.locator("#panel-heatmaps")).to_be_visible()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Chromium's software GPU")
def test_gpu_gives_the_same_poses(demo, launched, images):
    """Run the graph by WebGPU on Chromium's software adapter, which is slow."""
    with launched("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan") as browser:
        page = browser.new_page()
        page.goto(demo.url)
        wait_for_status(page, "Ready.")
        if page.locator("#device option[value=webgpu]").is_disabled():
            pytest.skip("this Chromium has no software GPU")
        page.get_by_label("Run on").select_option("webgpu")
        playwright.expect(page.locator("body")).not_to_have_attribute("aria-busy", "true", timeout=SLOW)
        playwright.expect(page.locator("#error")).to_be_hidden()
        assert page.get_by_label("Run on").input_value() == "webgpu"
        assert_equals_python(poses_of(page, images.files[1]), demo.file, images.files[1:2])
