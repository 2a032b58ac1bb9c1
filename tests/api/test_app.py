from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from scripted_model import ScriptedEngine, Serve
from starlette.testclient import TestClient

from letterwise.results import Calibration, CalibrationCurve

COUNT = "/api/position_count/letter_count"
POSITION = "/api/position_count/letter_position"
SPELL = "/api/spelling/predict"
CHECK = "/api/spelling/check"
MODES = ["direct", "spell_first", "computed"]


def test_a_count_comes_with_mode_confidence_and_time(serve: Serve) -> None:
    client = serve(ScriptedEngine(answer="2"))
    answer = client.post(COUNT, json={"word": "Strawberry", "letter": "R", "mode": "direct"}).json()
    assert answer.pop("processing_time") > 0
    assert answer == {
        "word": "strawberry",
        "letter": "r",
        "count": 2,
        "confidence": pytest.approx(0.9),
        "mode": "direct",
        "model": "finetuned",
        "spelling": None,
        "expected": None,
        "correct": None,
    }


def test_a_spelling_is_a_sentence_and_letters_with_their_probabilities(shared_client: TestClient) -> None:
    answer = shared_client.post(SPELL, json={"text": "How do you spell 'algorithm'?"}).json()
    assert answer["input"] == "How do you spell 'algorithm'?"
    assert answer["output"] == "The word 'algorithm' is spelled A-L-G-O-R-I-T-H-M."
    assert [letter["letter"] for letter in answer["letters"]] == list("algorithm")
    assert answer["letters"][0]["confidence"] == pytest.approx(0.9)
    assert answer["confidence"] == pytest.approx(0.9**9)
    assert "".join(answer["tokens"]) == "algorithm"
    assert len(answer["tokens"]) > 1


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_model_gives_wrong_answers_in_every_mode(serve: Serve, mode: str) -> None:
    """No route knows better than the model: neither the count, nor the letter, nor the spelling is mended."""
    client = serve(ScriptedEngine(spellings={"strawberry": "strawbxry"}, answer="7" if mode != "computed" else None))
    count = client.post(COUNT, json={"word": "strawberry", "letter": "r", "mode": mode, "verify": True}).json()
    assert count["count"] == (2 if mode == "computed" else 7)
    assert (count["expected"], count["correct"]) == (3, False)
    client = serve(ScriptedEngine(spellings={"strawberry": "strawbxry"}, answer="q"))
    place = client.post(POSITION, json={"word": "strawberry", "position": 7, "mode": mode, "verify": True}).json()
    assert place["letter"] == ("x" if mode == "computed" else "q")
    assert (place["expected"], place["correct"]) == ("e", False)
    spelling = client.post(SPELL, json={"text": "strawberry", "verify": True}).json()
    assert spelling["output"] == "The word 'strawberry' is spelled S-T-R-A-W-B-X-R-Y."
    assert (spelling["expected"], spelling["correct"]) == ("strawberry", False)


def test_modes_that_spell_show_the_spelling(serve: Serve) -> None:
    client = serve(ScriptedEngine(spellings={"tree": "treee"}))
    for mode, spelling in (("direct", None), ("spell_first", "treee"), ("computed", "treee")):
        assert client.post(COUNT, json={"word": "tree", "letter": "e", "mode": mode}).json()["spelling"] == spelling


def test_a_position_that_the_models_spelling_lacks_has_no_letter(serve: Serve) -> None:
    client = serve(ScriptedEngine(spellings={"strawberry": "straw"}))
    answer = client.post(POSITION, json={"word": "strawberry", "position": 9, "mode": "computed"}).json()
    assert (answer["letter"], answer["confidence"]) == (None, 0)


def test_calibration_sets_the_default_modes_and_the_confidence(serve: Serve) -> None:
    curve = CalibrationCurve(confidences=[0.5, 1.0], probabilities=[0.2, 0.4], n=100)
    calibration = Calibration(
        adapter="a",
        curves={"letter_count.spell_first": curve, "spelling": curve},
        accuracy={},
        default_modes={"letter_count": "spell_first", "letter_position": "direct"},
    )
    client = serve(ScriptedEngine(answer="1"), base=ScriptedEngine(answer="1"), calibration=calibration)
    answer = client.post(COUNT, json={"word": "tree", "letter": "r"}).json()
    assert (answer["mode"], answer["confidence"]) == ("spell_first", pytest.approx(0.36))
    assert client.post(POSITION, json={"word": "tree", "position": 1}).json()["mode"] == "direct"
    # The curves are the tuned model's.
    base = client.post(COUNT, json={"word": "tree", "letter": "r", "model": "base"}).json()
    assert base["confidence"] == pytest.approx(0.9)
    assert client.get("/ready").json()["default_modes"] == calibration.default_modes


def test_the_base_model_answers_only_where_it_is_loaded(serve: Serve) -> None:
    client = serve(ScriptedEngine(answer="1"), base=ScriptedEngine(answer="4"))
    assert client.get("/ready").json()["models"] == ["finetuned", "base"]
    body = {"word": "tree", "letter": "r", "mode": "direct"}
    assert client.post(COUNT, json=body).json()["count"] == 1
    assert client.post(COUNT, json={**body, "model": "base"}).json()["count"] == 4
    alone = serve().post(COUNT, json={**body, "model": "base"})
    assert alone.status_code == 400
    assert "COMPARE_BASE" in alone.json()["details"]


def test_a_batch_is_answered_in_order_whatever_its_items_ask(serve: Serve) -> None:
    client = serve(ScriptedEngine(spellings={"tree": "tre"}, answer="2"))
    items = [
        {"word": "tree", "letter": "e", "mode": "computed"},
        {"word": "banana", "letter": "a", "mode": "direct"},
        {"word": "banana", "letter": "a", "mode": "computed"},
        {"word": "letter", "letter": "t", "mode": "spell_first"},
    ]
    results = client.post(f"{COUNT}/batch", json={"items": items}).json()["results"]
    assert [(one["word"], one["mode"], one["count"]) for one in results] == [
        ("tree", "computed", 1),
        ("banana", "direct", 2),
        ("banana", "computed", 3),
        ("letter", "spell_first", 2),
    ]
    places = client.post(f"{POSITION}/batch", json={"items": [{"word": "abc", "position": n} for n in (3, 1, 2)]})
    assert [one["letter"] for one in places.json()["results"]] == ["c", "a", "b"]
    words = client.post(f"{SPELL}/batch", json={"items": [{"text": "one"}, {"text": "Spell the word two"}]})
    assert [one["word"] for one in words.json()["results"]] == ["one", "two"]


def test_a_batch_may_not_be_larger_than_the_models(serve: Serve) -> None:
    client = serve(max_batch_size=2)
    assert client.get("/ready").json()["max_batch_size"] == 2
    response = client.post(f"{COUNT}/batch", json={"items": [{"word": "tree", "letter": "e"}] * 3})
    assert response.status_code == 400
    assert "MAX_BATCH_SIZE" in response.json()["details"]


def test_concurrent_requests_share_batches(serve: Serve) -> None:
    engine = ScriptedEngine(seconds=0.02, answer="1")
    client = serve(engine)
    engine.batches.clear()
    with ThreadPoolExecutor(16) as pool:
        bodies = [{"word": word, "letter": "e", "mode": "direct"} for word in ("tree", "letter") * 16]
        statuses = [response.status_code for response in pool.map(lambda body: client.post(COUNT, json=body), bodies)]
    assert statuses == [200] * 32
    assert sum(engine.batches) == 32
    assert len(engine.batches) < 20


def test_a_word_is_spelled_once(serve: Serve) -> None:
    engine = ScriptedEngine()
    client = serve(engine)
    engine.batches.clear()
    items = [{"word": "banana", "position": place, "mode": "computed"} for place in range(1, 7)]
    client.post(f"{POSITION}/batch", json={"items": items})
    client.post(SPELL, json={"text": "banana"})
    assert engine.batches == [1]


def test_a_spelling_may_be_forgotten_while_another_word_is_spelled(serve: Serve) -> None:
    """As the canary does."""
    engine = ScriptedEngine()
    client = serve(engine)
    state = client.app.state.service  # type: ignore[attr-defined]
    assert client.post(SPELL, json={"text": "banana"}).status_code == 200
    engine.batches.clear()
    engine.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        items = [{"text": "banana"}, {"text": "rhythm"}]
        asked = pool.submit(client.post, f"{SPELL}/batch", json={"items": items})
        while not engine.batches:
            time.sleep(0.01)
        state.answering.forget("banana")
        engine.gate.set()
        assert asked.result().status_code == 200
    engine.batches.clear()
    state.answering.forget("rhythm")
    assert client.post(f"{SPELL}/batch", json={"items": items}).status_code == 200
    assert engine.batches == [1]  # banana is remembered


def test_too_much_waiting_is_refused_early(serve: Serve) -> None:
    engine = ScriptedEngine(answer="1")
    client = serve(engine, max_batch_size=1, queue_size=2, max_queue_ms=60_000, request_timeout_seconds=60)
    engine.gate = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        body = {"word": "tree", "letter": "e", "mode": "direct"}
        asked = [pool.submit(client.post, COUNT, json=body) for _ in range(8)]
        refused = 0
        while refused < 5:  # one is being run, two wait; of a burst, only those two may have been let in
            time.sleep(0.01)
            refused = sum(one.done() for one in asked)
        engine.gate.set()
        responses = [one.result() for one in asked]
    statuses = sorted(response.status_code for response in responses)
    answered = statuses.count(200)
    assert answered in (2, 3)
    assert statuses == [200] * answered + [503] * (8 - answered)
    for response in responses:
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) >= 1
            assert response.json()["error"] == "Overloaded"
    assert f"letterwise_queue_rejected_total {8 - answered}.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COUNT, {"word": "", "letter": "r"}),
        (COUNT, {"word": "two words", "letter": "r"}),
        (COUNT, {"word": "na\u0000me", "letter": "r"}),
        (COUNT, {"word": "naïve", "letter": "r"}),
        (COUNT, {"word": "🍓", "letter": "r"}),
        (COUNT, {"word": "b4nana", "letter": "r"}),
        (COUNT, {"word": "a" * 10_000, "letter": "r"}),
        (COUNT, {"word": "tree", "letter": "ee"}),
        (COUNT, {"word": "tree", "letter": "3"}),
        (COUNT, {"word": "tree", "letter": "ß"}),
        (COUNT, {"word": "tree"}),
        (COUNT, {"word": 7, "letter": "r"}),
        (COUNT, {"word": "tree", "letter": "r", "mode": "guess"}),
        (COUNT, {"word": "tree", "letter": "r", "extra": 1}),
        (POSITION, {"word": "tree", "position": 0}),
        (POSITION, {"word": "tree", "position": 5}),
        (POSITION, {"word": "tree", "position": "2"}),
        (POSITION, {"word": "tree", "position": 1.5}),
        (SPELL, {"text": "Is 'this' or 'that' longer?"}),
        (SPELL, {"text": "what is going on here?"}),
        (SPELL, {"text": "tree\u0000"}),
        (CHECK, {"word": "not-a-word"}),
        (f"{COUNT}/batch", {"items": []}),
    ],
)
def test_bad_input_is_one_clear_sentence(shared_client: TestClient, path: str, body: dict[str, object]) -> None:
    response = shared_client.post(path, json=body)
    assert response.status_code == 400
    problem = response.json()
    assert problem.keys() == {"error", "details", "request_id"}
    assert problem["error"] == "Invalid input"
    assert problem["details"].endswith(".")
    assert len(problem["details"]) < 200


def test_compatibility_forms_are_plain_letters(shared_client: TestClient) -> None:
    assert shared_client.post(COUNT, json={"word": "ｔｒｅｅ", "letter": "Ｅ", "mode": "computed"}).json()["count"] == 2
    assert shared_client.post(SPELL, json={"text": " “Tree” "}).json()["word"] == "tree"


def test_a_misspelled_word_gets_a_suggestion(shared_client: TestClient) -> None:
    assert shared_client.post(CHECK, json={"word": "algorithm"}).json()["is_correct"] is True
    answer = shared_client.post(CHECK, json={"word": "algoritm"}).json()
    assert (answer["is_correct"], answer["suggestion"]) == (False, "algorithm")
    assert 0 < answer["confidence"] <= 1
    batch = shared_client.post(f"{CHECK}/batch", json={"items": [{"word": "recieve"}, {"word": "tree"}]}).json()
    assert [(one["word"], one["suggestion"]) for one in batch["results"]] == [("recieve", "receive"), ("tree", None)]


def test_the_spell_check_does_without_the_model_and_the_description_says_so(serve: Serve) -> None:
    engine = ScriptedEngine()
    client = serve(engine)
    engine.batches.clear()
    client.post(f"{CHECK}/batch", json={"items": [{"word": "recieve"}, {"word": "tree"}, {"word": "qzxv"}]})
    assert engine.batches == []
    openapi = client.get("/openapi.json").json()
    assert "Only the spell check does without the model" in openapi["info"]["description"]
    assert "not the model" in openapi["paths"][CHECK]["post"]["description"]
    assert "spell check" not in serve(task_type="position_count").get("/openapi.json").json()["info"]["description"]


@pytest.mark.parametrize(("task", "path", "gone"), [("spelling", SPELL, COUNT), ("position_count", COUNT, SPELL)])
def test_a_task_type_leaves_the_other_tasks_routes_out(serve: Serve, task: str, path: str, gone: str) -> None:
    client = serve(task_type=task)
    assert client.post(gone, json={}).status_code == 404
    paths = client.get("/openapi.json").json()["paths"]
    assert path in paths
    assert gone not in paths
    assert client.get("/ready").json()["tasks"] == [task]


def test_until_the_model_has_answered_the_service_lives_but_is_not_ready(serve: Serve) -> None:
    engine = ScriptedEngine(gate=threading.Event())
    client = serve(engine, ready=False)
    assert client.get("/health").json()["status"] == "ok"
    response = client.get("/ready")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert client.post(SPELL, json={"text": "tree"}).status_code == 503
    assert "letterwise_ready 0.0" in client.get("/metrics").text
    assert engine.gate
    engine.gate.set()


def test_without_a_worker_the_service_is_not_ready(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("a bug of ours")

    client = serve()
    assert "letterwise_ready 1.0" in client.get("/metrics").text
    monkeypatch.setattr(client.app.state.service.batcher.admission, "begin", fail)  # type: ignore[attr-defined]
    assert client.post(SPELL, json={"text": "tree"}).status_code == 503
    response = client.get("/ready")
    assert response.status_code == 503
    assert "must be restarted" in response.json()["details"]
    assert client.post(SPELL, json={"text": "tree"}).json() == {**response.json(), "request_id": mock.ANY}
    assert "letterwise_ready 0.0" in client.get("/metrics").text
    assert client.get("/health").status_code == 200


def test_a_key_is_asked_for_where_there_are_keys(serve: Serve) -> None:
    client = serve(api_key="secret-one,secret-two")
    assert client.post(SPELL, json={"text": "tree"}).status_code == 401
    for key in ("secret-one", "secret-two"):
        headers = {"Authorization": f"Bearer {key}"}
        assert client.post(SPELL, json={"text": "tree"}, headers=headers).status_code == 200
    assert client.get("/ready").status_code == 200
    assert "bearer" in client.get("/openapi.json").json()["components"]["securitySchemes"]


def test_requests_over_the_rate_are_refused(serve: Serve) -> None:
    client = serve(rate_limit="2/minute")
    statuses = [client.post(SPELL, json={"text": "tree"}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_metrics_are_json_or_prometheus_text_as_asked(serve: Serve) -> None:
    client = serve(ScriptedEngine(answer="1"))
    client.post(COUNT, json={"word": "tree", "letter": "r", "mode": "direct"})
    client.post(COUNT, json={"word": "tree", "letter": "e", "mode": "direct"})
    text = client.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    labels = 'mode="direct",model="finetuned",question_type="letter_count"'
    assert f'letterwise_answers_total{{correct="true",{labels}}} 1.0' in text.text
    assert f'letterwise_answers_total{{correct="false",{labels}}} 1.0' in text.text
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.text.endswith("# EOF\n")
    report = client.get("/metrics", headers={"Accept": "application/json"}).json()
    assert report.keys() == {"spelling", "position_count", "transfer_learning", "live"}
    assert report["spelling"]["accuracy"] is None


def test_every_answer_has_a_request_id_and_security_headers(shared_client: TestClient) -> None:
    for response in (
        shared_client.get("/"),
        shared_client.get("/docs"),
        shared_client.get("/nothing"),
        shared_client.post(SPELL, json={}),
    ):
        assert response.headers["X-Request-ID"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert shared_client.post(SPELL, json={}, headers={"X-Request-ID": "mine"}).json()["request_id"] == "mine"


def test_the_documentation_needs_no_other_server(shared_client: TestClient) -> None:
    page = shared_client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for path in ("/swagger/swagger-ui-bundle.js", "/swagger/swagger-ui.css", "/static/favicon.svg"):
        assert path.removeprefix("/") in page
        assert shared_client.get(path).status_code == 200


def test_the_openapi_examples_are_answered(shared_client: TestClient) -> None:
    openapi = shared_client.get("/openapi.json").json()
    tried = 0
    for path, operations in openapi["paths"].items():
        if "post" in operations:
            name = operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
            for example in openapi["components"]["schemas"][name]["examples"]:
                assert shared_client.post(path, json=example).status_code == 200
                tried += 1
            assert "422" not in operations["post"]["responses"]
    assert tried == 8
