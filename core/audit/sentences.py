"""Rule: says an entry of the audit trail as a sentence."""

from core.audit.actions import Action

# What somebody did, by action; {} is what it was done to.
_SAID = {
    Action.FLAG_CREATE: "created the flag {}",
    Action.FLAG_UPDATE: "changed the flag {}",
    Action.FLAG_DELETE: "deleted the flag {}",
    Action.CANARY_PROMOTE: "took the canary {} to its next step",
    Action.CANARY_ROLLBACK: "rolled back the canary {}",
    Action.EXPERIMENT_START: "started the experiment {}",
    Action.EXPERIMENT_STOP: "stopped the experiment {}",
    Action.EXPERIMENT_DECIDE: "decided the experiment {}",
    Action.LAYER_CREATE: "made the layer {}",
    Action.LAYER_REMOVE: "removed the layer {}",
    Action.HOLDOUT_START: "started the holdout {}",
    Action.HOLDOUT_END: "ended the holdout {}",
    Action.METRIC_ADD: "defined the metric {}",
    Action.METRIC_REMOVE: "removed the metric {}",
    Action.SCHEDULE_CREATE: "scheduled changes of the flag {}",
    Action.SCHEDULE_PAUSE: "paused the schedule of the flag {}",
    Action.SCHEDULE_RESUME: "resumed the schedule of the flag {}",
    Action.SCHEDULE_CANCEL: "canceled the schedule of the flag {}",
    Action.TOPIC_MARK: "decided about the topic {}",
    Action.TOPIC_RENAME: "renamed the topic {}",
    Action.TOPIC_SUMMARIZE: "summarized the topic {}",
    Action.TOPIC_EXCLUDE: "took a question out of the topic {}",
    Action.TOPIC_INCLUDE: "put a question back into the topic {}",
    Action.TOPIC_EXPORT: "made an issue of the topic {}",
    Action.DRIFT_ACCEPT: "accepted the new level of scores of {}",
    Action.DRIFT_MAP: "mapped the scores of two embedding models for {}",
    Action.PREDICTION_SAVE: "saved the prediction for {}",
    Action.LEDGER_PREDICT: "predicted the effect of {}",
    Action.LEDGER_MEASURE: "measured the effect of entry {}",
    Action.REPLAY_SAVE: "saved the replay of {}",
    Action.ALERT_SAVE: "saved the alert rule {}",
    Action.ALERT_DELETE: "deleted the alert rule {}",
    Action.ALERT_SNOOZE: "snoozed the alert {}",
    Action.ALERT_RESOLVE: "resolved the alert {}",
    Action.ALERT_CHANNEL: "saved the channel {} of alerts",
    Action.ALERT_CHANNEL_DELETE: "deleted the channel {} of alerts",
    Action.ALERT_TEST: "sent a test to the channel {} of alerts",
    Action.ALERT_RESEND: "sent again what the channel {} of alerts had missed",
    Action.INDEX_REGISTER: "registered the index {}",
    Action.INDEX_SWAP: "let another index go live as {}",
    Action.INDEX_RETIRE: "retired the index {}",
    Action.INDEX_REMOVE: "removed the index {}",
    Action.PROBE_SAVE: "probed {}",
    Action.JOB_START: "started the job {}",
    Action.JOB_CANCEL: "canceled the job {}",
    Action.LOG_PURGE: "purged old questions of {}",
    Action.LOG_ERASE: "erased the data of {}",
    Action.TOKEN_CREATE: "created the token {}",
    Action.TOKEN_REVOKE: "revoked the token {}",
    Action.ENVIRONMENT_ADD: "added the environment {}",
    Action.DEPLOYMENT_START: "started a release of {}",
    Action.DEPLOYMENT_FAIL: "could not release {}",
    Action.DEPLOYMENT_SWITCH: "switched the traffic of {}",
    Action.DEPLOYMENT_ROLLBACK: "rolled back the release of {}",
    Action.DEPLOYMENT_TEARDOWN: "took down the idle color of {}",
    Action.DEPLOYMENT_RESUME: "resumed the release of {}",
    Action.STORE_RESTORE: "restored the store from {}",
    Action.PROMPT_PROMOTE: "promoted the prompt {}",
    Action.PROMPT_ROLLBACK: "rolled back the prompt {}",
    Action.PROMPT_MAP: "named the parameters and metrics of {}",
    Action.ROLE_GRANT: "granted a role to {}",
    Action.ROLE_REVOKE: "revoked a role of {}",
    Action.SESSION_END: "ended the session of {}",
    Action.SERVICE_SET: "changed the settings of the service {}",
    Action.SERVICE_RENAME: "renamed the service {}",
    Action.SERVICE_MERGE: "merged the service {}",
    Action.SERVICE_RELEARN: "had the scale of the service {} learned again",
    Action.QUESTION_JUDGE: "judged answers: {}",
    Action.VIEW_SAVE: "saved the view {}",
    Action.VIEW_DELETE: "deleted the view {}",
    Action.REVIEW_CREATE: "started the review queue {}",
    Action.REVIEW_LABEL: "labeled a question of the review queue {}",
    Action.REVIEW_CLOSE: "closed the review queue {}",
    Action.CASE_ADD: "added cases to {}",
    Action.CASE_CHANGE: "changed a case of {}",
    Action.CASE_REMOVE: "removed cases from {}",
    Action.CASE_RESTORE: "restored a version of the cases {}",
    Action.CASE_IMPORT: "imported the cases {}",
    Action.CASE_GOLDEN: "made {} the golden set",
    Action.TODO_SNOOZE: "put off a decision: {}",
    Action.TODO_WAKE: "brought back a decision: {}",
    Action.APPROVAL_POLICY: "changed which changes need a second person in {}",
    Action.APPROVAL_REQUEST: "asked for the change {}",
    Action.APPROVAL_PROPOSE: "let an assistant propose the change {}",
    Action.APPROVAL_AMEND: "amended the requested change {}",
    Action.APPROVAL_GRANT: "approved the change {}",
    Action.APPROVAL_REJECT: "rejected the change {}",
    Action.APPROVAL_WITHDRAW: "withdrew the request for the change {}",
}

# Left out at the end of what is said without a target.
_PREPOSITIONS = frozenset({"as", "for", "from", "in", "of", "to"})


def say_action(action: str) -> str:
    """Return what was done without its target; the action's own name where this release does not know it.

    >>> say_action("flag.update"), say_action("log.erase"), say_action("moon.land")
    ('changed the flag', 'erased the data', 'moon.land')
    """
    if action not in _SAID:
        return str(action)
    said, _, rest = _SAID[Action(action)].partition("{}")
    words = said.strip(" :").split()
    while not rest and words[-1] in _PREPOSITIONS:
        words.pop()
    return " ".join([*words, *rest.split()])


def say_entry(actor: str, action: str, target: str) -> str:
    """Return who did what to what.

    >>> say_entry("ada", "flag.update", "use_hyde")
    'ada changed the flag use_hyde'
    >>> say_entry("ada", "moon.land", "sea")
    'ada did moon.land of sea'
    """
    what = _SAID[Action(action)].replace("{}", target) if action in _SAID else f"did {action} of {target}"
    return f"{actor} {what}"
