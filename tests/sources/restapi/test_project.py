"""Project files: every documented key is read, in YAML and INI alike, and every mistake is named
with its line.
"""

from __future__ import annotations

import dataclasses

import pytest

from holdfast.core.errors import NoProjectError, ProjectError
from holdfast.sources.restapi.project import sections
from holdfast.sources.restapi.project.ini import read_ini
from holdfast.sources.restapi.project.project import described, load_project, read_project

YAML = """\
settings:
  initialized: true
  name: demo
  splitter: "|"
project:
  description: "50% off, no#1"
  url: http://localhost/api
  http_mode: post
  work_modes: full,update
  iterate_by: skip
  default_delay: 0.25
  retry_count: 7
params:
  page_size_param: size
  page_size_limit: 50
  count_skip_param: skip
  start_page: 0
  force_flat_params: true
data:
  total_number_key: total
  data_key: "@odata.value"
  item_key: inn, kpp
  change_key: changed,version
follow:
  follow_mode: item
  follow_pattern: http://localhost/item
  follow_item_key: id
  follow_param: id
files:
  fetch_mode: prefix
  root_url: http://localhost/files/
  keys: doc.url,scan
storage:
  storage_type: zip
  compression: false
auth:
  type: apikey
  api_key: secretvalue
  api_key_header: X-API-Key
rate_limit:
  requests_per_second: 10
  burst_size: 2
request:
  timeout: 60
  verify_ssl: false
  max_redirects: 3
  proxies: http=http://proxy:8080,https=http://proxy:8443
  retry_on_status: 500,418
"""

INI = """\
; a comment of its own
[settings]
initialized = True   # yes
name = demo
splitter = |
[project]
description = 50%% off, no#1
url = http://localhost/api   ; where it is
http_mode = POST
work_modes = full,update
iterate_by = skip
default_delay = 0.25
retry_count = 7
[params]
page_size_param = size
page_size_limit = 50 # records
count_skip_param : skip
start_page = 0
force_flat_params = yes
[data]
total_number_key = total
data_key = @odata.value
item_key = inn, kpp
change_key = changed,version
[follow]
follow_mode = item
follow_pattern = http://localhost/item
follow_item_key = id
follow_param = id
[files]
fetch_mode = prefix
root_url = http://localhost/files/
keys = doc.url,scan
[storage]
storage_type = zip
compression = False
[auth]
type = apikey
api_key = secretvalue
api_key_header = X-API-Key  # Optional, default is X-API-Key
[rate_limit]
requests_per_second = 10
burst_size = 2
[request]
timeout = 60
verify_ssl = False
max_redirects = 3
proxies = http=http://proxy:8080,https=http://proxy:8443
retry_on_status = [500, 418]
"""


def write(folder, text, name="apibackuper.yaml"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def texts(reading):
    return [described(mistake) for mistake in reading.mistakes]


def test_yaml_and_ini_say_the_same(tmp_path):
    """One project in both forms is the same project."""
    yaml = load_project(write(tmp_path / "a", YAML))
    ini = load_project(write(tmp_path / "b", INI, "apibackuper.cfg"))
    for field in dataclasses.fields(yaml):
        if field.name not in {"folder", "file"}:
            assert getattr(yaml, field.name) == getattr(ini, field.name), field.name
    assert yaml.data.item_key == ("inn", "kpp")
    assert yaml.source.description == "50% off, no#1"
    assert yaml.source.http_mode == "POST"
    assert yaml.request.proxies == {"http": "http://proxy:8080", "https": "http://proxy:8443"}
    assert yaml.request.retry_on_status == (500, 418)
    assert yaml.auth.api_key.reveal() == "secretvalue"
    assert yaml.auth.api_key_header == "X-API-Key"
    assert yaml.storage.level is None
    assert "secretvalue" not in repr(yaml)


def test_every_mistake_at_once_with_its_line(tmp_path):
    """Wrong types, missing keys, bad words and unknown names: all in one go."""
    text = YAML.replace("page_size_limit: 50", "page_size_limit: many")
    text = text.replace("http://localhost/api", "localhost/api").replace(
        "iterate_by: skip", "iterate_by: skipp"
    )
    text = text.replace("storage_type: zip", "storage_typ: zip").replace(
        "timeout: 60", "timeout: -1"
    )
    reading = read_project(write(tmp_path, text))
    lines = text.splitlines()
    found = "\n".join(texts(reading))
    for word in ("page_size_limit", "url: localhost", "iterate_by", "  timeout: -1"):
        line = next(number for number, line in enumerate(lines, 1) if word in line)
        assert f"line {line}: " in found
    assert "must be a whole number, not 'many'" in found
    assert "storage.storage_type is missing" in found
    assert [described(item) for item in reading.unknown] == [
        (
            f"line {lines.index('  storage_typ: zip') + 1}: storage.storage_typ is no key;"
            " did you mean storage_type?"
        )
    ]
    assert reading.project is None


def test_unknown_keys_do_not_stop_an_old_project(tmp_path):
    """They are named with the closest known one, and the project can be run."""
    reading = read_project(
        write(tmp_path, YAML.replace("data_key:", "pages_number_count: x\n  data_key:"))
    )
    assert reading.project is not None
    assert "did you mean pages_number_key?" in described(reading.unknown[0])


@pytest.mark.parametrize("section", ["settings", "project", "params", "data", "storage"])
def test_missing_sections_are_named(tmp_path, section):
    """A project without one of the five needed sections says which."""
    kept = []
    skipping = False
    for line in YAML.splitlines():
        if not line.startswith(" "):
            skipping = line.startswith(section)
        if not skipping:
            kept.append(line)
    assert f"section {section} is missing" in texts(read_project(write(tmp_path, "\n".join(kept))))


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ("type: basic", "username"),
        ("type: bearer", "token"),
        ("type: apikey", "api_key"),
        ("type: digest", "must be one of basic, bearer, apikey, oauth2"),
        ("type: oauth2\n  refresh_token: abc", "auth_url"),
        ("token: abc", "auth.type is missing"),
    ],
)
def test_auth_that_cannot_work_is_named(tmp_path, auth, said):
    """Unknown types and missing parts."""
    text = YAML.replace("type: apikey\n  api_key: secretvalue\n  api_key_header: X-API-Key", auth)
    assert any(said in line for line in texts(read_project(write(tmp_path, text))))


def test_a_wrong_secret_is_not_repeated(tmp_path):
    """What stands behind a secret key never comes back in a message."""
    text = YAML.replace("api_key: secretvalue", "api_key: [secretvalue]")
    assert "secretvalue" not in "\n".join(texts(read_project(write(tmp_path, text))))


def test_variables(tmp_path, monkeypatch):
    """${VAR}, ${VAR:-default} and ${VAR:=default} in both forms; a missing one is named with its
    line.
    """
    monkeypatch.setenv("API_HOST", "example.org")
    monkeypatch.delenv("API_SIZE", raising=False)
    yaml = YAML.replace("http://localhost/api", "http://${API_HOST}/${API_PATH:-items}")
    yaml = yaml.replace("page_size_limit: 50", 'page_size_limit: "${API_SIZE:=25}"')
    ini = INI.replace("http://localhost/api", "http://${API_HOST}/${API_PATH:-items}")
    assert load_project(write(tmp_path / "a", yaml)).source.url == "http://example.org/items"
    assert load_project(write(tmp_path / "a", yaml)).params.page_size_limit == 25
    assert (
        load_project(write(tmp_path / "b", ini, "apibackuper.cfg")).source.url
        == "http://example.org/items"
    )
    broken = write(tmp_path / "c", YAML.replace("name: demo", "name: ${NO_SUCH_VARIABLE}"))
    assert "line 3: the environment has no variable NO_SUCH_VARIABLE" in texts(read_project(broken))


@pytest.mark.parametrize(
    "text",
    [
        "settings: [1, 2\nproject:\n",
        "settings:\n  name: a\n  name: b\n",
        "- a\n- b\n",
        "settings: 5\n",
        "",
    ],
)
def test_broken_yaml_is_a_sentence(tmp_path, text):
    """Never a traceback."""
    with pytest.raises(ProjectError, match="cannot be used"):
        load_project(write(tmp_path, text))


def test_broken_ini_names_each_line(tmp_path):
    """Every line that cannot be understood."""
    _, mistakes = read_ini("stray\n[a]\nno sign\nkey = 1\nkey = 2\n")
    assert [mistake.line for mistake in mistakes] == [1, 3, 5]
    with pytest.raises(ProjectError, match="line 1"):
        load_project(write(tmp_path, "stray\n", "apibackuper.cfg"))


def test_ini_continuation_quotes_and_references():
    """Indented lines go on, a comment sign inside quotes is text, %(name)s is looked up."""
    values, mistakes = read_ini(
        '[a]\nbase = http://x\nurl = %(base)s/y\nagent = "a # b" # c\n'
        "long = 1,\n   2 ; two\ncolour=#fff\nword = a#b\n"
    )
    assert mistakes == []
    found = {name: item.value for name, item in values["a"].items()}
    assert found == {
        "base": "http://x",
        "url": "http://x/y",
        "agent": '"a # b"',
        "long": "1,\n2",
        "colour": "",
        "word": "a#b",
    }


def test_no_project(tmp_path):
    """An empty folder is no project, and the sentence says how to make one."""
    with pytest.raises(NoProjectError) as caught:
        load_project(tmp_path)
    assert "create" in caught.value.advice


def test_a_skeleton_does_not_hide_a_filled_in_file(tmp_path):
    """apibackuper.yaml as `create` made it gives way to an apibackuper.cfg that somebody wrote."""
    write(tmp_path, "settings:\n  initialized: false\n  name: x\n")
    write(tmp_path, INI, "apibackuper.cfg")
    assert load_project(tmp_path).name == "demo"


def test_follow_rules(tmp_path):
    """A single section, a list under rules, or a bare list."""
    single = load_project(write(tmp_path / "a", YAML)).follow
    assert [rule.name for rule in single] == [""]
    head, tail = YAML.split("follow:\n", maxsplit=1)[0], "files:\n" + YAML.split("files:\n")[1]
    rule = (
        "{name: docs, follow_mode: prefix, follow_pattern: 'http://x/', follow_item_key: id,"
        " params: {page_number_param: p, page_size_limit: 5}}"
    )
    for text in (f"follow:\n  rules:\n    - {rule}\n", f"follow:\n  - {rule}\n"):
        rules = load_project(write(tmp_path / "b", head + text + tail)).follow
        assert [
            (one.name, one.params.page_number_param, one.params.max_pages) for one in rules
        ] == [("docs", "p", 1000)]


def test_every_key_has_one_home():
    """No key is declared twice in a section, and each has a conversion."""
    for kind in (
        sections.Settings,
        sections.Source,
        sections.Params,
        sections.Data,
        sections.Auth,
        sections.RequestOptions,
    ):
        for field in dataclasses.fields(kind):
            assert "convert" in field.metadata or dataclasses.is_dataclass(field.default)
