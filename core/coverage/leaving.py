"""Rule: the topics without the questions that somebody took out of them. What they hold is added up again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from core.coverage.topics import Topic, Topics, gain_of
from core.log.values import AskedQuery, normalize_query


def take_out(found: Topics, queries: Sequence[AskedQuery], removed: Mapping[str, Collection[int]]) -> Topics:
    """Return the topics without some of their members, given by the topic's id; these become outliers.

    Counts, share, mean score and gain are those of the members that stay; center and keywords are not changed by a few
    questions, and are kept. A topic without members is left out.
    """
    if not any(removed.values()):
        return found
    asked = sum(query.count for query in queries)
    topics, out = list[Topic](), {*found.outliers}
    for topic in found.topics:
        gone = {*topic.members} & {*removed.get(topic.topic_id, ())}
        out |= gone
        kept = tuple(member for member in topic.members if member not in gone)
        if kept:
            topics.append(_count_again(topic, kept, queries, asked) if gone else topic)
    return replace(found, topics=tuple(sorted(topics, key=lambda each: -each.count)), outliers=tuple(sorted(out)))


def _count_again(topic: Topic, kept: tuple[int, ...], queries: Sequence[AskedQuery], asked: int) -> Topic:
    members = [queries[member] for member in kept]
    count = sum(query.count for query in members)
    mean = sum(query.count * query.mean_score for query in members) / count
    texts = {normalize_query(query.text) for query in members}
    steep = topic.count * topic.cohesion**4
    baseline = topic.gain / steep + topic.mean_score if topic.gain > 0 and steep > 0 else topic.mean_score
    samples = tuple(text for text in topic.sample_queries if normalize_query(text) in texts)
    return replace(
        topic, members=kept, count=count, distinct=len(texts), share=count / asked, mean_score=mean,
        gain=gain_of(count, mean, topic.cohesion, baseline_median=baseline) if topic.gain > 0 else 0.0,
        sample_queries=samples or (members[0].text,),
    )  # fmt: skip
