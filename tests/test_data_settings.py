"""brogue.toml is typed: what is wrong in it is one line with the file's name."""

import pytest

from data.errors import BrogueError
from data.home import Home, new_folder, write_text
from data.messages import with_system
from data.settings import Settings, load_settings


def test_without_a_file_all_is_default(home: Home) -> None:
    assert load_settings(home.settings_file) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base_modle = 'x'", "unknown key 'base_modle'; known keys here: advisor, base_model, engine, files, gateway"),
        ("[engine]\nmax_lora = 2", "unknown key 'engine.max_lora'; known keys here: .*max_loras"),
        ("[gateway]\nport = 'x'", "gateway.port: .*found 'x'"),
        ("[engine]\nmax_lora_rank = 12", "engine.max_lora_rank: .*found 12"),
        ("[engine]\nurls = ['gpu-1:8000']", "engine.urls.0: .*pattern.*found 'gpu-1:8000'"),
        ("[engine]\nurls = ['http://a:1', 'http://a:1']", "engine: .*urls names an engine twice"),
        ("[engine]\ncount = 2\nquorum = 3", "engine: .*quorum = 3 can never be reached: 2 engines hold an adapter"),
        ("[engine]\ncount = 3\nquorum = 2\ncopies = 1", "quorum = 2 can never be reached: 1 engines hold"),
        ("[training]\nreport_to = ['wandb']", "training.report_to.0: .*'tensorboard', 'mlflow' or 'trackio'.*'wandb'"),
        ("base_model = ", "not valid TOML"),
        ("[prices]\nmachine_per_hour = 2", "prices: .*wants answers_at_once beside it"),
        ("[advisor]\nbudget_minutes = 0", "advisor.budget_minutes: .*greater than 0, found 0"),
        ("[advisor]\nother_bases = 'starter'", "advisor.other_bases: .*found 'starter'"),
        ("[prices]\nanswer_per_million = -1", "prices.answer_per_million: .*found -1"),
    ],
)
def test_a_wrong_setting_is_one_line_with_what_was_found(home: Home, text: str, message: str) -> None:
    write_text(home.settings_file, text)
    with pytest.raises(BrogueError, match=message) as error:
        load_settings(home.settings_file)
    assert str(home.settings_file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_fails_half_way_leaves_nothing(home: Home) -> None:
    target = home.root / "things" / "1"
    with pytest.raises(ZeroDivisionError), new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []


def test_our_system_prompt_comes_first_and_the_clients_follows() -> None:
    messages = [{"role": "system", "content": "Theirs."}, {"role": "user", "content": "Hi"}]
    assert with_system(messages, "Ours.", True) == [
        {"role": "system", "content": "Ours.\n\nTheirs."},
        {"role": "user", "content": "Hi"},
    ]


def test_where_the_template_takes_no_system_message_the_prompt_opens_the_first_question() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    assert with_system(messages, "Ours.", False)[0] == {"role": "user", "content": "Ours.\n\nHi"}
    assert messages[0]["content"] == "Hi", "the caller's messages are not changed"


def test_without_a_prompt_messages_stay_as_they_are() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert with_system(messages, None, True) == messages
    assert with_system(messages, "Ours.", False)[0]["content"][0] == {"type": "text", "text": "Ours."}


def test_the_store_is_named_without_its_password(home: Home) -> None:
    write_text(home.settings_file, '[store]\nurl = "postgresql://me@host/db"\nlogging = "redacted"\n')
    assert load_settings(home.settings_file).store.logging == "redacted"
    for url in ("postgresql://me:secret@host/db", "postgresql://host/db?password=secret"):
        write_text(home.settings_file, f'[store]\nurl = "{url}"\n')
        with pytest.raises(BrogueError, match="holds a password; .* environment: PGPASSWORD") as error:
            load_settings(home.settings_file)
        assert "secret" not in str(error.value)
    write_text(home.settings_file, '[store]\nlogging = "some"\n')
    with pytest.raises(BrogueError, match="store.logging: Input should be 'full', 'redacted' or 'off', found 'some'"):
        load_settings(home.settings_file)
