"""The files in docs/alerts: they name metrics that there are, and their own tools accept them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyprof_agent.metrics import METRICS
from tests.support import ROOT

ALERTS = ROOT / "docs" / "alerts"
PAGE = ROOT / "docs" / "alerts.md"
CLOUDWATCH = ["cloudwatch-alarm.json", "cloudwatch-alarm-resident.json"]
PROMTOOL = shutil.which("promtool")


def named(text: str) -> set[str]:
    """Metrics that a text names, as Prometheus or as Datadog does."""
    return set(re.findall(r"\bpyprof_agent_\w+", text)) | {
        f"pyprof_agent_{name}" for name in re.findall(r"\bpyprof_agent\.(\w+)", text)
    }


@pytest.mark.parametrize("path", sorted(ALERTS.iterdir()), ids=lambda path: path.name)
def test_every_metric_that_a_file_names_is_exported(path: Path) -> None:
    found = named(path.read_text())
    assert found
    assert found <= set(METRICS)


def test_every_file_and_every_metric_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [path.name for path in ALERTS.iterdir() if f"alerts/{path.name})" not in text] == []
    assert [name for name in METRICS if f"`{name}`" not in text] == []
    assert set(re.findall(r"\bpyprof_agent_\w+", text)) <= set(METRICS)


def test_every_alert_is_on_the_page() -> None:
    rules = (ALERTS / "prometheus-rules.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) == 5
    tests, page = (ALERTS / "prometheus-rules-test.yml").read_text(), PAGE.read_text()
    for alert in alerts:
        assert f"alertname: {alert}" in tests
        assert f"| `{alert}` | " in page


def test_the_check_of_datadog_collects_what_its_monitor_asks_for() -> None:
    monitor = read("datadog-monitor.json")
    assert {"name", "type", "query", "message", "options"} <= set(monitor)
    assert monitor["type"] == "query alert"
    critical = monitor["options"]["thresholds"]["critical"]
    # Datadog refuses a query that ends in another number.
    assert monitor["query"].endswith(f" >= {critical}")
    block = PAGE.read_text().partition("openmetrics.d/conf.yaml")[2].partition("```text")[2]
    collected = re.findall(r"^      - (\S+)$", block.partition("```")[0], re.MULTILINE)
    known = [name.removeprefix("pyprof_agent_").removesuffix("_total") for name in METRICS]
    assert all(any(re.fullmatch(form, name) for name in known) for form in collected)
    wanted = [name.removeprefix("pyprof_agent_") for name in named(json.dumps(monitor))]
    assert all(any(re.fullmatch(form, name) for form in collected) for name in wanted)


@pytest.mark.parametrize("name", CLOUDWATCH)
def test_alarms_of_cloudwatch_have_what_is_asked_for(name: str) -> None:
    alarm = read(name)
    assert {
        "AlarmName",
        "AlarmActions",
        "ComparisonOperator",
        "EvaluationPeriods",
        "Metrics",
        "Threshold",
    } <= set(alarm)
    assert alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]
    assert [one["ReturnData"] for one in alarm["Metrics"]].count(True) == 1
    stats = [one["MetricStat"] for one in alarm["Metrics"] if "MetricStat" in one]
    for stat in stats:
        # An alarm looks at a day at most where a period is shorter than an hour.
        assert alarm["EvaluationPeriods"] * stat["Period"] <= 86400
        assert f"^{stat['Metric']['MetricName']}$" in PAGE.read_text()  # the agent's declaration


def test_the_configuration_of_the_cloudwatch_agent_is_json() -> None:
    blocks = re.findall(r"```text\n(\{.*?)```", PAGE.read_text(), re.DOTALL)
    (config,) = [json.loads(block) for block in blocks]
    prometheus = config["logs"]["metrics_collected"]["prometheus"]
    declared = prometheus["emf_processor"]
    for name in CLOUDWATCH:
        text = json.dumps(read(name))
        assert f'"Namespace": "{declared["metric_namespace"]}"' in text
        assert declared["metric_declaration"][0]["dimensions"] == [["service"]]
        assert '"Dimensions": [{"Name": "service", ' in text


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool on PATH")
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "prometheus-rules.yml"), ("test", "rules", "prometheus-rules-test.yml")],
    ids=lambda arguments: arguments[0],
)
def test_the_rules_are_right_by_promtool(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    result = subprocess.run(
        [PROMTOOL, *arguments], cwd=ALERTS, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ALERTS / name).read_text())
    return found
