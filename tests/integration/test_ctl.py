"""The socket of ``flatout ctl``: real sockets, a real run under load, and clients that mean no good."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.steering import Disturb, disturbed, enemies, users
from flatout import Client
from flatout.cli.ctl import ctl
from flatout.cli.run_names import find
from flatout.control import place
from flatout.control.asking import ask
from flatout.control.server import AT_ONCE, LONGEST_LINE, PER_SECOND, served
from flatout.errors import ConfigError
from flatout.events import Steered
from flatout.store import RunFile, RunReader
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from flatout.testing._server import serve
from tests.support.command_samples import PATIENCE, eventually


def told(request: dict[str, Any]) -> dict[str, Any]:
    return {"heard": request["do"], "user": request["by"]}


def connected(where: Path) -> socket.socket:
    return place.connect_to(where, 5.0)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_request_is_answered_by_the_run_of_a_file(tmp_path: Path) -> None:
    """Nobody could steer a run; or others than its user could."""
    run_file = tmp_path / "a.flatout"

    async def main() -> None:
        async with served(lambda: place.places(run_file), told) as where:
            assert where is not None
            assert stat.S_IMODE(where.lstat().st_mode) == 0o600
            answer = await asyncio.to_thread(ask, run_file, {"do": "status", "by": "somebody else"})
            assert answer["heard"] == "status"
            assert answer["user"] != "somebody else"
        assert not where.exists()

    asyncio.run(main())
    with pytest.raises(ConfigError, match="nothing to steer"):
        ask(run_file, {"do": "status"})


def test_a_run_that_is_just_starting_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that starts a run and then asks for its state would fail, now and then."""
    monkeypatch.setattr("flatout.cli.ctl.PATIENCE", 60.0)  # for a busy machine
    name, said = tmp_path / "a.jsonl", {"out": "", "err": ""}

    def has_said() -> bool:
        now = capsys.readouterr()
        said["out"] += now.out
        said["err"] += now.err
        return bool(said["err"])

    async def main() -> None:
        asks = asyncio.create_task(asyncio.to_thread(ctl, str(name), "status"))
        await asyncio.to_thread(eventually, has_said)
        assert not asks.done()
        async with RunFile.open(f"{name}.flatout", job={}, command="flatout run x"):
            await asyncio.sleep(0.3)
            assert not asks.done()
            async with served(lambda: place.places(Path(f"{name}.flatout")), told):
                assert await asks == 0

    asyncio.run(main())
    has_said()
    assert json.loads(said["out"])["heard"] == "status"
    assert said["err"] == f"flatout: there is no run of {name} yet; waiting up to 60 s\n"


def test_a_long_path_has_its_socket_in_a_folder_of_the_user(tmp_path: Path) -> None:
    """A run in a deep folder could not be steered."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    run_file = folder / "a.flatout"

    async def main() -> None:
        async with served(lambda: place.places(run_file), told) as where:
            assert where is not None
            assert where.parent == place.own_folder()
            assert stat.S_IMODE(where.parent.stat().st_mode) == 0o700
            assert (await asyncio.to_thread(ask, run_file, {"do": "x"}))["heard"] == "x"
        assert not where.exists()

    asyncio.run(main())


def test_a_dead_run_s_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    """After kill -9 a run could not be steered any more; or a second program would take over a live run's socket."""
    where = tmp_path / "a.ctl"
    first = place.listen(where)
    with pytest.raises(OSError, match="in use"):
        place.listen(where)
    first.close()  # and leaves the file, as a killed process does
    second = place.listen(where)
    made = place.mark(where)
    place.remove(where, (0, 0))
    assert where.exists()
    place.remove(where, made)
    assert not where.exists()
    second.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A user's file with that name would be deleted."""
    where = tmp_path / "a.ctl"
    where.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        place.listen(where)
    assert where.read_text() == "mine"


@pytest.mark.parametrize(
    "sent", [b"\n", b"{\n", b"7\n", b"[" * 3_000 + b"\n", b"\xff\xfe\n", b"x" * 5_000, b'{"do": 1}\n{"do": 2}\n']
)
def test_garbage_is_answered_or_dropped(tmp_path: Path, sent: bytes) -> None:
    """A client that sends garbage would end the run, or keep others from steering it."""
    run_file = tmp_path / "a.flatout"

    def send(where: Path) -> bytes:
        with connected(where) as end:
            end.sendall(sent)
            with suppress(ConnectionResetError):
                return end.recv(10_000)
            return b""

    async def main() -> None:
        async with served(lambda: place.places(run_file), told) as where:
            assert where is not None
            answer = await asyncio.to_thread(send, where)
            assert answer == b"" or json.loads(answer.splitlines()[0])
            assert (await asyncio.to_thread(ask, run_file, {"do": "x"}))["heard"] == "x"

    asyncio.run(main())


def test_a_client_that_goes_while_it_is_answered_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run's log would fill with tracebacks of a client that says too much and does not wait for its answer."""
    where = tmp_path / "a.ctl"

    def rude() -> None:
        with connected(where) as end:
            end.sendall(b'{"do": "status"}\nmore')

    async def main() -> None:
        async with served(lambda: [where], told):
            for _ in range(5):
                rude()  # it has gone before the loop hears of it
                await asyncio.sleep(0.05)

    asyncio.run(main())
    assert caplog.records == []


def test_a_flood_of_connections_costs_a_bounded_share_of_the_loop(tmp_path: Path) -> None:
    """Somebody who opens thousands of connections, says half a line or never reads would slow the run down."""
    where, heard = tmp_path / "a.ctl", [0]
    gc.collect()  # what earlier tests have left
    before = open_files()

    def count(request: dict[str, Any]) -> dict[str, Any]:
        heard[0] += 1
        return {"much": "x" * 50_000}

    def flood(seconds: float) -> int:
        ends, opened, kept = time.monotonic() + seconds, 0, []
        while time.monotonic() < ends:
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            end.settimeout(0.05)
            with suppress(OSError):
                end.connect(str(where))
                end.sendall([b"{", b'{"do": "status"}\n', b"\x00" * LONGEST_LINE][opened % 3])
                opened += 1
            kept.append(end)
            if len(kept) > 200:
                kept.pop(0).close()
        for end in kept:
            end.close()
        return opened

    async def main() -> tuple[int, float, float]:
        async with served(lambda: [where], count):
            began, busy = time.monotonic(), time.thread_time()
            opened = await asyncio.to_thread(flood, 2.0)
            return opened, time.thread_time() - busy, time.monotonic() - began

    opened, busy, seconds = asyncio.run(main())
    assert heard[0] <= AT_ONCE + PER_SECOND * (seconds + 1.0)
    assert opened <= 2 * (AT_ONCE + PER_SECOND * (seconds + 1.0))
    assert busy < 0.25 * seconds  # 1 % is usual
    assert open_files() == before


def test_a_run_under_load_is_steered_and_loses_nothing(tmp_path: Path) -> None:
    """Retuning a run would cause refusals, lose rows, or come to nothing."""
    prompts, output = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    rows = 1_000  # after 600 it waits for a minute: it goes on until it is told to go faster
    prompts.write_text("".join(f'{{"prompt": "row {n}"}}\n' for n in range(rows)))
    run_file = Path(f"{output}.flatout")

    def asked(do: str, **given: Any) -> dict[str, Any]:
        return ask(run_file, {"do": do, **given})

    async def main() -> None:
        async with await serve(ProviderModel(ProviderSettings(rpm=60_000, latency=0.2))) as server:
            await asyncio.to_thread(run, server.url)

    def run(url: str) -> None:
        options = ["-o", str(output), "-m", "any", "--rpm", "600", "--base-url", url, "--quiet"]
        process = subprocess.Popen([sys.executable, "-m", "flatout", "run", str(prompts), *options])
        try:
            steer(process)
        finally:
            process.kill()
            process.wait()

    def begun() -> bool:
        with suppress(ConfigError):
            return bool(asked("status")["finished"] > 5)
        return False

    def steer(process: subprocess.Popen[bytes]) -> None:
        eventually(begun)
        asked("pause")
        eventually(lambda: asked("status")["in_flight"] == 0)
        paused = asked("status")
        assert paused["state"] == "paused"
        time.sleep(1.0)
        assert asked("status")["finished"] - paused["finished"] <= paused["in_flight"] + 64
        asked("set", rpm=30_000)
        with pytest.raises(ConfigError, match="no target is named"):
            asked("set", rpm=60, target="nobody")
        asked("resume")
        assert process.wait(PATIENCE) == 0

    asyncio.run(main())
    assert len(output.read_text().splitlines()) == rows
    assert not Path(f"{run_file}.ctl").exists()
    with RunReader.open(run_file) as reader:
        assert reader.course is not None
        happenings = [each for _, each in reader.course.happenings()]
        assert sum(stretch.refused for _, stretch in reader.course.stretches()) == 0
    assert [each.what for each in happenings if each.kind == "change"] == ["paused", "rpm 30,000", "resumed"]
    assert all(each.by for each in happenings if each.kind == "change")


def test_a_program_s_client_is_steered_by_name(tmp_path: Path) -> None:
    """A service or a notebook that asks too fast could only be stopped; or two programs would answer to one name."""
    name = tmp_path / "labels"

    async def main() -> None:
        wire = SimulatedTransport(ProviderModel(ProviderSettings(rpm=60_000, latency=0.01)))
        options = {"base_url": "http://127.0.0.1:1/v1", "transport": wire}
        told: list[Steered] = []
        async with Client("m", control=name, budget=1.0, allow_unknown_price=True, **options) as client:
            client.events.subscribe(lambda event: told.append(event) if isinstance(event, Steered) else None)
            assert (await client.gather(["one"]))[0].ok

            async def asked(do: str, **given: Any) -> dict[str, Any]:
                return await asyncio.to_thread(ask, name, {"do": do, **given})

            await asked("set", rpm=6_000, budget=2)
            await asked("pause")
            found = await asked("status")
            assert (found["state"], found["targets"]["127.0.0.1:1/m"]["limits"]["rpm"]) == ("paused", 6_000)
            assert found["budget"]["left"] == 2.0
            await asked("resume")
            with pytest.raises(ConfigError, match="a program's client can be asked to status, pause, resume, set"):
                await asked("stop")
            other = Client("m", control=f"{name}.ctl", **options)
            with pytest.raises(ConfigError, match="another program is steered as"):
                await other.__aenter__()
        assert [each.what for each in told] == ["rpm 6,000", "budget $2", "paused", "resumed"]
        assert all(each.by for each in told)

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_program_s_name_and_its_run_file_name_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever knows one of them would read that no run is under way, or that there is no run file."""

    async def main(name: Path, run_file: Path) -> None:
        wire = SimulatedTransport(ProviderModel(ProviderSettings(latency=0.01)))
        async with Client("m", control=name, base_url="http://127.0.0.1:1/v1", transport=wire) as client:
            async for _ in client.as_completed(map(str, range(3)), store=run_file):
                await asyncio.to_thread(ctl, str(name), "status")
                if run_file.stem != name.name:
                    with pytest.raises(ConfigError, match=f"is steered as {name}: flatout ctl {name} pause"):
                        await asyncio.to_thread(ctl, str(run_file), "pause")
                    with pytest.raises(ConfigError, match=f"{name} steers a program.*its run file is {run_file}"):
                        await asyncio.to_thread(find, str(name))

    asyncio.run(main(tmp_path / "labels", tmp_path / "prog.flatout"))
    asyncio.run(main(tmp_path / "labels", tmp_path / "labels.flatout"))
    assert capsys.readouterr().out.count('"state": "running"') == 6


def test_a_client_without_a_place_for_its_socket_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program would run for hours, and nobody could steer it."""
    monkeypatch.setattr(place, "places", lambda _: [])
    client = Client("m", base_url="http://127.0.0.1:1/v1", control=tmp_path / "x")
    with pytest.raises(ConfigError, match="give control a path that you may write"):
        asyncio.run(client.__aenter__())


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_a_retuned_run_of_thousands_keeps_to_each_limit(tmp_path: Path, workers: int) -> None:
    """A changed limit would hold late, or not for all workers, or not be used to the full; or cause refusals."""
    rows, bound = 4_000, 12_000
    prompts, output = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    prompts.write_text("".join(f'{{"prompt": "row {n}"}}\n' for n in range(rows)))
    run_file = Path(f"{output}.flatout")
    model = ProviderModel(ProviderSettings(rpm=bound, burst=1.0, latency=0.2, latency_p99=0.2))

    def asked(do: str, **given: Any) -> dict[str, Any]:
        return ask(run_file, {"do": do, **given})

    def rate(seconds: float) -> float:
        """Requests a second that the server admits, from a second after now on."""
        time.sleep(1.0)
        before, began = model.stats()["received"], time.monotonic()
        time.sleep(seconds)
        return float(model.stats()["received"] - before) / (time.monotonic() - began)

    def steer(process: subprocess.Popen[bytes]) -> None:
        eventually(lambda: model.stats()["received"] > 100)
        asked("set", rpm=1_200)
        assert rate(5.0) == pytest.approx(20, rel=0.03)
        asked("set", rpm=bound)
        assert rate(3.0) == pytest.approx(200, rel=0.03)
        asked("set", concurrency=4)
        time.sleep(1.0)
        status = asked("status")
        assert status["in_flight"] <= 4
        assert [each["in_flight"] for each in status["targets"].values()] == [status["in_flight"]]
        asked("set", concurrency=None)
        asked("pause")
        time.sleep(1.0)
        assert asked("status")["in_flight"] == 0
        asked("resume")
        asked("skip", row=rows)
        assert process.wait(120) == 1  # a row was skipped

    def run(url: str) -> None:
        options = ["-o", str(output), "-m", "any", "--rpm", "6000", "--base-url", url, "--workers", str(workers), "-q"]
        process = subprocess.Popen([sys.executable, "-m", "flatout", "run", str(prompts), *options])
        try:
            steer(process)
        finally:
            process.kill()
            process.wait()

    async def main() -> None:
        async with await serve(model) as server:
            await asyncio.to_thread(run, server.url)

    asyncio.run(main())
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(answers) == rows
    assert [place for place, each in enumerate(answers) if each["error"]] == [rows - 1]
    stats = model.stats()
    assert (stats["refused"], stats["answered"]) == (0, rows - 1)
    with RunReader.open(run_file) as reader:
        assert reader.course is not None
        told = [each.what for _, each in reader.course.happenings() if each.kind == "change"]
    limits = ["rpm 1,200", "rpm 12,000", "concurrency 4", "concurrency unknown"]
    assert told == [*limits, "paused", "resumed", f"skip row {rows}"]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("rows", "disturb", "asks"), [(18_500, partial(users, rpm=3_000), 10_000), (8_000, enemies, 500)]
)
def test_ten_thousand_requests_and_hostile_clients_slow_no_run(
    tmp_path: Path, rows: int, disturb: Disturb, asks: int
) -> None:
    """A dashboard that asks all the time, or a broken program at the socket, would cost hours of a long run."""
    prompts, output = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    prompts.write_text("".join(f'{{"prompt": "row {n}"}}\n' for n in range(rows)))
    # Where a busy machine stands still, the server receives at once what was sent evenly: up to two seconds of it.
    model = ProviderModel(ProviderSettings(rpm=3_010, burst=2.0, latency=1.0, latency_p99=3.0))

    def pace(until: int) -> float:
        """Seconds a row that the server receives from now on, up to one of the rows."""
        began, before = time.monotonic(), model.stats()["received"]
        while model.stats()["received"] < until:
            time.sleep(0.01)
        return (time.monotonic() - began) / (until - before)

    def run(url: str) -> tuple[float, int]:
        """What the disturbance makes of the pace, and how often the run heard something."""
        # With a burst, flatout does not try whether the server takes more at once, and no call is refused for that.
        options = ["-o", str(output), "-m", "any", "--rpm", "3000", "--burst", "1", "--base-url", url, "-q"]
        process = subprocess.Popen([sys.executable, "-m", "flatout", "run", str(prompts), *options])
        try:
            pace(3_200)  # The first minute is faster than those that follow.
            alone = pace(5_200)
            with disturbed(disturb, f"{output}.flatout.ctl") as asked:
                slower, heard = pace(rows) / alone, asked()
            assert process.wait(60) == 0
            return slower, heard
        finally:
            process.kill()
            process.wait()

    async def main() -> tuple[float, int]:
        async with await serve(model) as server:
            return await asyncio.to_thread(run, server.url)

    slower, heard = asyncio.run(main())
    assert heard >= asks
    assert slower <= 1.01
    assert len(output.read_text().splitlines()) == rows
    stats = model.stats()
    assert (stats["refused"], stats["answered"]) == (0, rows)
