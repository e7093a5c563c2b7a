"""Settings: who wins, what is refused and in which words, and that the reference is current."""

import re
from pathlib import Path

import pytest

from mim.config import Settings, masked
from mim.config_check import SettingsError, load_settings, read_settings_file, source_of
from mim.config_reference import listing, reference

SECRET = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", *Settings.model_fields):
        monkeypatch.delenv(f"MIM_{name.upper()}", raising=False)


def write(text: str, name: str = "mim.toml") -> None:
    Path(name).write_text(text)


def refused(**options: object) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        load_settings(**options)
    return refusal.value.problems


def test_options_over_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().port == 8080
    write("port = 1001\nsend_rate = 7.5\n")
    assert load_settings().port == 1001
    monkeypatch.setenv("MIM_PORT", "1002")
    assert load_settings().port == 1002
    settings = load_settings(port=1003, host=None)

    assert (settings.port, settings.host, settings.send_rate) == (1003, "127.0.0.1", 7.5)


def test_the_file_that_mim_config_names(monkeypatch: pytest.MonkeyPatch) -> None:
    write("port = 1001\n")
    write("port = 1004\n", "other.toml")
    monkeypatch.setenv("MIM_CONFIG", "other.toml")

    assert load_settings().port == 1004


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIM_REDIS_URL", "")
    assert load_settings().redis_url is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot = 1", r"Unknown key prot in mim\.toml: did you mean port\?"),
        ("[server]\nport = 1", r"Unknown key server in mim\.toml: remove it, or see `mim config --reference`.*"),
        ("port = = 1", r"mim\.toml is no TOML: .* \(at line 1, column 8\)\."),
        ("port = 70000", r"port in mim\.toml should be less than or equal to 65535 \(TCP port .*\)"),
        ("keepalive_min_s = 700", r"The settings do not fit together: keepalive_min_s must not be above .*\."),
        ("tls_key = 'k'", r"The settings do not fit together: tls_certificate and tls_key go together: .*\."),
        ("tls_key = 'k'\ntls_certificate = '.'", r"tls_key names 'k', which cannot be read; correct the path.*"),
        ("workers = 0", r"workers in mim\.toml should be greater than or equal to 1 \(Processes that serve .*\)"),
        ("workers = 12", r"workers: 12 of them with a database_pool of 8 want 234 connections, the embedded .*"),
        (f"database_url = 'mysql://{SECRET}'", r"database_url in mim\.toml must begin with postgresql://.*"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    write(text)
    [problem] = refused()
    assert re.fullmatch(sentence, problem)
    assert SECRET not in problem


def test_wrong_variables_are_told_together_and_never_with_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIM_PORT", SECRET)
    monkeypatch.setenv("MIM_JWT_SECRET", SECRET[:9])
    monkeypatch.setenv("MIM_REDDIS_URL", SECRET)
    problems = refused()

    assert [problem.split(" ")[0] for problem in problems] == ["Unknown", "MIM_PORT", "MIM_JWT_SECRET"]
    assert problems[0] == "Unknown variable MIM_REDDIS_URL: did you mean MIM_REDIS_URL?"
    assert SECRET[:9] not in "".join(problems)


def test_a_wrong_option_is_named_as_one() -> None:
    assert refused(port=-1)[0].startswith("option --port should be greater than or equal to 0")


def test_variables_of_the_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIM_TEST_DATABASE_URL", "postgresql://")
    load_settings()


def test_a_named_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIM_CONFIG", "nowhere.toml")
    assert refused() == ["MIM_CONFIG names 'nowhere.toml', which is no file; correct the path or unset MIM_CONFIG."]


def test_secrets_are_masked_and_sources_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write("dev = true\n")
    monkeypatch.setenv("MIM_JWT_SECRET", SECRET)
    settings = load_settings(database_url=f"postgresql://mim:{SECRET}@db/mim")
    sources = {name: source_of(name, {}, read_settings_file()) or "" for name in ("dev", "jwt_secret")}
    told = listing(settings, sources)

    assert SECRET not in told
    assert SECRET not in repr(settings)
    assert masked(settings)["database_url"] == "********"
    assert 'jwt_secret = "********"  # MIM_JWT_SECRET' in told
    assert "dev = true  # dev in mim.toml" in told
    assert "# redis_url is not set" in told


def test_the_reference_is_current() -> None:
    written = Path(__file__).parents[1] / "docs" / "settings.md"
    assert written.read_text() == reference(), "run: mim config --reference > docs/settings.md"
