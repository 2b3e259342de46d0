"""Rule: the names of every action of the audit trail. Stored trails contain these values, so they never change."""

from enum import StrEnum


class Subject(StrEnum):
    """What an action is about: the first part of its name."""

    FLAG = "flag"
    CANARY = "canary"
    EXPERIMENT = "experiment"
    SCHEDULE = "schedule"
    TOPIC = "topic"
    DRIFT = "drift"
    PREDICTION = "prediction"
    LEDGER = "ledger"
    REPLAY = "replay"
    ALERT = "alert"
    INDEX = "index"
    PROBE = "probe"
    JOB = "job"
    LOG = "log"
    TOKEN = "token"  # noqa: S105
    ENVIRONMENT = "environment"
    DEPLOYMENT = "deployment"
    STORE = "store"
    PROMPT = "prompt"
    ROLE = "role"
    SERVICE = "service"
    QUESTION = "question"
    VIEW = "view"
    SESSION = "session"
    REVIEW = "review"
    CASE = "case"
    TODO = "todo"
    APPROVAL = "approval"


class Action(StrEnum):
    """What can be done to stored state, by the name that the audit trail gives it."""

    FLAG_CREATE = "flag.create"
    FLAG_UPDATE = "flag.update"
    FLAG_DELETE = "flag.delete"
    CANARY_PROMOTE = "canary.promote"
    CANARY_ROLLBACK = "canary.rollback"
    EXPERIMENT_START = "experiment.start"
    EXPERIMENT_STOP = "experiment.stop"
    EXPERIMENT_DECIDE = "experiment.decide"
    SCHEDULE_CREATE = "schedule.create"
    SCHEDULE_PAUSE = "schedule.pause"
    SCHEDULE_RESUME = "schedule.resume"
    SCHEDULE_CANCEL = "schedule.cancel"
    TOPIC_MARK = "topic.mark"
    TOPIC_RENAME = "topic.rename"
    TOPIC_SUMMARIZE = "topic.summarize"
    TOPIC_EXCLUDE = "topic.exclude"
    TOPIC_INCLUDE = "topic.include"
    TOPIC_EXPORT = "topic.export"
    DRIFT_ACCEPT = "drift.accept"
    DRIFT_MAP = "drift.map"
    PREDICTION_SAVE = "prediction.save"
    LEDGER_PREDICT = "ledger.predict"
    LEDGER_MEASURE = "ledger.measure"
    REPLAY_SAVE = "replay.save"
    ALERT_SAVE = "alert.save"
    ALERT_DELETE = "alert.delete"
    INDEX_REGISTER = "index.register"
    INDEX_SWAP = "index.swap"
    INDEX_RETIRE = "index.retire"
    INDEX_REMOVE = "index.remove"
    PROBE_SAVE = "probe.save"
    JOB_START = "job.start"
    JOB_CANCEL = "job.cancel"
    LOG_PURGE = "log.purge"
    LOG_ERASE = "log.erase"
    TOKEN_CREATE = "token.create"  # noqa: S105
    TOKEN_REVOKE = "token.revoke"  # noqa: S105
    ENVIRONMENT_ADD = "environment.add"
    DEPLOYMENT_START = "deployment.start"
    DEPLOYMENT_FAIL = "deployment.fail"
    DEPLOYMENT_SWITCH = "deployment.switch"
    DEPLOYMENT_ROLLBACK = "deployment.rollback"
    DEPLOYMENT_TEARDOWN = "deployment.teardown"
    DEPLOYMENT_RESUME = "deployment.resume"
    STORE_RESTORE = "store.restore"
    PROMPT_PROMOTE = "prompt.promote"
    PROMPT_ROLLBACK = "prompt.rollback"
    PROMPT_MAP = "prompt.map"
    ROLE_GRANT = "role.grant"
    ROLE_REVOKE = "role.revoke"
    SESSION_END = "session.end"
    SERVICE_SET = "service.set"
    SERVICE_RENAME = "service.rename"
    SERVICE_MERGE = "service.merge"
    SERVICE_RELEARN = "service.relearn"
    QUESTION_JUDGE = "question.judge"
    VIEW_SAVE = "view.save"
    VIEW_DELETE = "view.delete"
    REVIEW_CREATE = "review.create"
    REVIEW_LABEL = "review.label"
    REVIEW_CLOSE = "review.close"
    CASE_ADD = "case.add"
    CASE_CHANGE = "case.change"
    CASE_REMOVE = "case.remove"
    CASE_RESTORE = "case.restore"
    CASE_IMPORT = "case.import"
    CASE_GOLDEN = "case.golden"
    TODO_SNOOZE = "todo.snooze"
    TODO_WAKE = "todo.wake"
    APPROVAL_POLICY = "approval.policy"
    APPROVAL_REQUEST = "approval.request"
    APPROVAL_AMEND = "approval.amend"
    APPROVAL_GRANT = "approval.grant"
    APPROVAL_REJECT = "approval.reject"
    APPROVAL_WITHDRAW = "approval.withdraw"


_ACTIONS: dict[str, Action] = {str(action): action for action in Action}
_SUBJECTS: dict[str, Subject] = {str(subject): subject for subject in Subject}


def read_action(name: str) -> Action | str:
    """Return the action of that name, or the name itself where another release recorded an action unknown here."""
    return _ACTIONS.get(name, name)


def subject_of(action: str) -> Subject | None:
    """Return what an action is about, known or not; None where its subject is unknown too."""
    return _SUBJECTS.get(action.partition(".")[0])


def verb_of(action: str) -> str:
    """Return what an action does: the second part of its name."""
    return action.partition(".")[2]
