"""V7, V8: Triton's own client works unchanged, and the metrics equal what a client has counted."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from tests.deploy.serving.running_service import RunningService, running_service

from .serving import ENGINE, Caller, exported, form, in_threads, pictures

SIDE, NUM_CLASSES = 32, 4


def v7(cases: int, seed: int) -> dict:
    """Run the first `cases` checks by tritonclient.http against a service with a real engine."""
    import tritonclient.http as http

    broken, num_checks = [], 0
    with (
        running_service(exported(), *ENGINE) as service,
        http.InferenceServerClient(f"127.0.0.1:{service.port}") as client,
    ):
        for name, is_right in checks(client, http, service.model, seed):
            if num_checks == cases:
                break
            num_checks += 1
            try:
                if not is_right():
                    broken.append(name)
            except Exception as error:
                broken.append(f"{name}: {error!r}")
    return {"cases": num_checks, "broken": len(broken), "details": broken[:10]}


def checks(client, http, model: str, seed: int) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Name of a check, and a function that returns whether it is passed.

    Args:
        client: InferenceServerClient.
        http: the module of it.
        model: name of the model.
        seed: of tensors and pictures.
    """
    rng, files = np.random.default_rng(seed), pictures(3, seed)

    def tensor(array: np.ndarray, *, binary: bool = True):
        given = http.InferInput("input", list(array.shape), "FP32")
        return [given.set_data_from_numpy(array, binary_data=binary)]

    def images(count: int, shape: tuple[int, ...] | None = None):
        array = np.array(files[:count], object).reshape(shape or (count,))
        return [http.InferInput("image", list(array.shape), "BYTES").set_data_from_numpy(array)]

    def refused(status: str, words: str, call: Callable[[], object]) -> bool:
        try:
            call()
        except http.InferenceServerException as error:
            return error.status() == status and words in error.message()
        return False

    yield "server live", client.is_server_live
    yield "server ready", client.is_server_ready
    yield "model ready", lambda: client.is_model_ready(model)
    yield "model ready, version", lambda: client.is_model_ready(model, "1")
    yield "model ready, other version", lambda: not client.is_model_ready(model, "2")
    yield "model ready, other model", lambda: not client.is_model_ready("other")
    yield "server metadata", lambda: "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata(model)
    yield "model metadata, name", lambda: about["name"] == model and about["versions"] == ["1"]
    yield "model metadata, tensor", lambda: about["inputs"][0]["shape"] == [-1, 3, SIDE, SIDE]
    yield "model metadata, images", lambda: about["inputs"][1]["datatype"] == "BYTES"
    yield "model metadata, outputs", lambda: about["outputs"][0]["shape"] == [-1, NUM_CLASSES]
    yield "model metadata, version", lambda: client.get_model_metadata(model, "1") == about
    yield "metadata of other model", lambda: refused("404", model, lambda: client.get_model_metadata("other"))
    yield "no configuration", lambda: refused("404", "path", lambda: client.get_model_config(model))
    yield "no repository", lambda: refused("404", "path", client.get_model_repository_index)
    yield "no loading", lambda: refused("404", "path", lambda: client.load_model(model))
    expected = {}
    for size in (1, 2, 7, 32):
        array = rng.standard_normal((size, 3, SIDE, SIDE), np.float32)
        expected[size] = array, client.infer(model, tensor(array)).as_numpy("logits")
        yield f"{size} tensors, shape", lambda size=size: expected[size][1].shape == (size, NUM_CLASSES)

    def same(array: np.ndarray, logits: np.ndarray, *, binary: bool = True, **options) -> bool:
        answer = client.infer(model, tensor(array, binary=binary), **options)
        return np.allclose(answer.as_numpy("logits"), logits, atol=1e-5)

    for size in (1, 7):
        array, logits = expected[size]
        for binary in (True, False):
            for compression in (None, "gzip", "deflate"):
                options = {"binary": binary, "request_compression_algorithm": compression}
                yield f"{size}, {options}", lambda a=array, b=logits, o=options: same(a, b, **o)
        yield f"{size}, version", lambda a=array, b=logits: same(a, b, model_version="1")
        yield (
            f"{size}, compressed answer asked",
            lambda a=array, b=logits: same(a, b, response_compression_algorithm="gzip"),
        )
        yield f"{size}, time-out", lambda a=array, b=logits: same(a, b, timeout=10_000_000)
        yield f"{size}, headers", lambda a=array, b=logits: same(a, b, headers={"X-Request-ID": "a"})
        yield f"{size}, parameters", lambda a=array, b=logits: same(a, b, parameters={"own": "value"})
    array, logits = expected[1]
    yield "id", lambda: client.infer(model, tensor(array), request_id="77").get_response()["id"] == "77"
    both = client.infer(model, tensor(array))
    exponentials = np.exp(both.as_numpy("logits") - both.as_numpy("logits").max())
    yield (
        "probabilities",
        lambda: np.allclose(both.as_numpy("probabilities"), exponentials / exponentials.sum(), atol=1e-5),
    )
    asked = [http.InferRequestedOutput("probabilities", binary_data=False)]
    answer = client.infer(model, tensor(array), outputs=asked)
    yield "one output", lambda: answer.as_numpy("logits") is None and answer.get_output("probabilities")["data"]
    for binary in (True, False):
        best = [http.InferRequestedOutput("logits", binary_data=binary, class_count=2)]
        texts = client.infer(model, tensor(array), outputs=best).as_numpy("logits").ravel().tolist()
        texts = [text.decode() if isinstance(text, bytes) else text for text in texts]
        top = int(np.argmax(logits[0]))
        yield (
            f"classification, {binary}",
            lambda texts=texts, top=top: len(texts) == 2 and texts[0].split(":")[1] == str(top),
        )
    yield "images", lambda: client.infer(model, images(3)).as_numpy("logits").shape == (3, NUM_CLASSES)
    yield "images, [B, 1]", lambda: client.infer(model, images(3, (3, 1))).as_numpy("logits").shape == (3, NUM_CLASSES)
    running = [client.async_infer(model, tensor(array)) for _ in range(8)]
    yield (
        "asynchronous",
        lambda: all(np.allclose(one.get_result().as_numpy("logits"), logits, atol=1e-5) for one in running),
    )
    yield "unknown model", lambda: refused("404", "no such model", lambda: client.infer("other", tensor(array)))
    other = rng.standard_normal((1, 3, SIDE, SIDE + 1), np.float32)
    yield "another shape", lambda: refused("400", "shape", lambda: client.infer(model, tensor(other)))
    yield "nan", lambda: refused("400", "nan", lambda: client.infer(model, tensor(array * np.nan)))
    unknown = [http.InferRequestedOutput("other")]
    yield (
        "unknown output",
        lambda: refused("400", "outputs", lambda: client.infer(model, tensor(array), outputs=unknown)),
    )
    wrong = http.InferInput("image", [1], "BYTES").set_data_from_numpy(np.array([b"no image"], object))
    yield "no image", lambda: refused("422", "image 0", lambda: client.infer(model, [wrong]))
    yield "two inputs", lambda: refused("400", "one input", lambda: client.infer(model, [*tensor(array), wrong]))


def v8(cases: int, seed: int) -> dict:
    """Send requests of all kinds from four clients, and compare each count of the metrics with theirs."""
    counted, images, lock = Counter(), Counter(), threading.Lock()
    file, left, seconds = pictures(1, seed)[0], iter(range(cases)), Counter()
    with running_service(exported(), *ENGINE) as service:
        infer = f"/v2/models/{service.model}/infer"
        in_route = "/v2/models/{name}/infer"
        two = form([file, b"no image"])
        # route, arguments of a request, status, images that are computed and that cannot be read
        kinds = [
            ("/predict", ("POST", "/predict", file), 200, 1, 0),
            ("/predict", ("POST", "/predict", *two), 200, 1, 1),
            ("/predict", ("POST", "/predict", b"no image"), 422, 0, 1),
            ("/predict", ("POST", "/predict?top_k=0", file), 400, 0, 0),
            ("/predict", ("POST", "/predict?model=other", file), 404, 0, 0),
            ("/predict", ("POST", "/predict", file, {"Content-Type": "text/plain"}), 415, 0, 0),
            ("/predict", ("POST", "/predict", *form([file] * 33)), 413, 0, 0),
            ("/predict", ("GET", "/predict"), 405, 0, 0),
            ("/model", ("GET", "/model"), 200, 0, 0),
            ("other", ("GET", "/nowhere"), 404, 0, 0),
            ("/v2/health/ready", ("GET", "/v2/health/ready"), 200, 0, 0),
            (in_route, ("POST", infer, b"{}"), 400, 0, 0),
            (in_route, ("POST", "/v2/models/other/infer", b"{}"), 404, 0, 0),
        ]

        def ask(thread: int) -> None:
            rng, caller = random.Random(f"{seed} {thread}"), Caller(service.port)
            while True:
                with lock:
                    if next(left, None) is None:
                        return caller.close()
                route, request, expected, num_computed, num_unreadable = rng.choice(kinds)
                start = time.monotonic()
                status, _ = caller.send(*request)
                with lock:
                    seconds[route] += time.monotonic() - start
                    counted[route, status] += 1
                    counted["unexpected"] += status != expected
                    images["computed"] += num_computed
                    images["unreadable_image"] += num_unreadable

        for thread in in_threads(4, ask):
            thread.join()
        samples = service.samples()
    broken = compare(service, samples, counted, images)
    measured = sum(samples[f'serving_request_seconds_sum{{route="{route}"}}'] for route in seconds)
    return {
        "cases": cases,
        "broken": len(broken),
        "counters": len(counted) - 1 + len(images),
        "seconds_of_service": round(measured, 2),
        "seconds_of_client": round(sum(seconds.values()), 2),
        "details": broken[:10],
    }


def compare(service: RunningService, samples: dict[str, float], counted: Counter, images: Counter) -> list[str]:
    """Which counts of the metrics differ from those of the client.

    Args:
        service: whose model is named in the metrics.
        samples: the metrics.
        counted: requests by (route, status), and under "unexpected" those of another status than expected.
        images: by outcome.
    """
    broken = [f"{counted.pop('unexpected')} answers of another status"] * bool(counted["unexpected"])
    counted.pop("unexpected", None)
    expected = {
        f'serving_requests_total{{route="{route}",status="{status}"}}': n for (route, status), n in counted.items()
    }
    expected |= {f'serving_images_total{{model="{service.model}",outcome="{name}"}}': n for name, n in images.items()}
    for route in {route for route, _ in counted}:
        name = f'serving_request_seconds_count{{route="{route}"}}'
        expected[name] = sum(n for (other, _), n in counted.items() if other == route)
    ours = ("serving_requests_total", "serving_images_total", "serving_request_seconds_count")
    found = {name: value for name, value in samples.items() if name.startswith(ours)}
    names = found.keys() | expected.keys()
    broken += [f"{n}: {found.get(n, 0)}, {expected.get(n, 0)}" for n in names if found.get(n, 0) != expected.get(n, 0)]
    return broken
