"""What the supervisor hands to the processes that it starts."""

import pytest

from assistant.page_process import page_environment
from data.home import Home
from data.settings import Address


@pytest.mark.parametrize(
    ("host", "trusted"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.5", False)],
)
def test_the_page_has_the_admin_key_only_where_no_other_machine_reaches_it_or_people_sign_in(
    home: Home, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    home.create()
    monkeypatch.setenv("BROGUE_ADMIN_KEY", "secret")
    monkeypatch.setenv("BROGUE_ENGINE_KEY", "the engines'")
    address = Address(host=host, port=7860)
    assert page_environment(address, home).get("BROGUE_ADMIN_KEY") == ("secret" if trusted else None)
    assert page_environment(address, home, signs_in=True)["BROGUE_ADMIN_KEY"] == "secret"
    assert "BROGUE_ENGINE_KEY" not in page_environment(address, home, signs_in=True)
