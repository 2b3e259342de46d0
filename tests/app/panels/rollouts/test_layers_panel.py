"""Layers and the holdout on the tab Experiments: made, started in, previewed, ended."""

import pytest
from streamlit.testing.v1 import AppTest

from core.flags.layer_store import get_holdout, list_layers
from core.flags.layers import Layer, find_holdout, find_layer
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.rollouts.layers import create_layer
from quarterdeck.definitions import canary_flag
from quarterdeck.store import Store
from tests.app.panels.rollouts.test_experiments_panel import press, shown
from tests.core.rollouts.test_experiments import ENVIRONMENT, KEY, SETUP, split_flag
from tests.pages.opening import open_page, text_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def open_layers() -> AppTest:
    app = open_page("rollouts", tab="Experiments")
    app.session_state["layers"] = True
    return app.run()


@pytest.mark.deep
def test_a_layer_is_made_and_an_experiment_takes_a_part_of_it(empty_url: str, store: Store) -> None:
    create_flag(store, KEY, split_flag({"short": 1, "long": 1}), SETUP)
    app = open_layers()
    app.text_input(key="layer-name").set_value("answers")
    app.text_input(key="layer-create-reason").set_value("they would mix")
    press(app, "Make the layer")
    assert [each.name for each in list_layers(store, ENVIRONMENT)] == ["answers"]
    app = open_page("rollouts", tab="Experiments")
    app.selectbox(key="experiment-layer").set_value("answers")
    app.number_input(key="experiment-layer-share").set_value(25.0)
    app.run()
    told = text_of(" ".join(each.value for each in app.caption))
    assert "get another answer, because they do not take part" in told
    app.text_input(key="experiment-name").set_value("longer")
    app.selectbox(key=f"control-{KEY}").set_value("short")
    app.text_input(key="experiment-start-reason").set_value("users ask for detail")
    app.text_input(key="experiment-typed").set_value(KEY)
    press(app, "Start")
    flag = get_flag(store, ENVIRONMENT, KEY)
    assert (find_layer(flag.view), flag.view.reached) == ("answers", 0.25)


@pytest.mark.deep
def test_a_holdout_is_previewed_started_and_ended(empty_url: str, store: Store) -> None:
    create_layer(store, Layer("answers"), SETUP)
    create_flag(store, "answers", canary_flag(20), SETUP)
    app = open_layers()
    app.text_input(key="holdout-name").set_value("2026q4").run()
    assert "answers: " in shown(app) and "would get another answer" in shown(app)
    app.text_input(key="holdout-start-reason").set_value("measure the quarter")
    press(app, "Start the holdout")
    assert find_holdout(get_flag(store, ENVIRONMENT, "answers").view) == "2026q4"
    app = open_layers()
    assert "2026q4: 5% of users have been held out since" in shown(app)
    app.text_input(key="holdout-end-reason").set_value("measured")
    press(app, "End the holdout")
    assert get_holdout(store, ENVIRONMENT) is None
