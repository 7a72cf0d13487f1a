"""Count what nobody knows the price of also in tasks that are older than the counter."""

from typing import Any

from django.db import migrations, models
from django.db.models import Count, Exists, OuterRef, Subquery

#: Failures that say that the question was not even taken on. Before prices were kept, these had none either.
REFUSALS = (
    *("auth", "permission", "not_found", "rate_limit", "quota", "no_key"),
    *("context_too_long", "too_large", "bad_request"),
)


def count_unknown_costs(apps: Any, _: Any) -> None:
    Step, Task = apps.get_model("executor", "Step"), apps.get_model("executor", "Task")
    asked = Step.objects.filter(kind="model", cost=None).exclude(status="started").order_by()
    asked.filter(
        status="failed", error_kind__in=REFUSALS, text="", reasoning="", input_tokens=0, output_tokens=0
    ).update(cost=0)
    unknown = asked.filter(task=OuterRef("pk")).exclude(provider="demo")
    count = unknown.values("task").annotate(count=Count("pk")).values("count")
    Task.objects.filter(Exists(unknown)).update(unpriced_calls=Subquery(count))


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0003_key_tests'),
        ('executor', '0004_usage'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='step',
            name='step_by_use',
        ),
        migrations.AddIndex(
            model_name='step',
            index=models.Index(fields=['task', 'kind', 'status', 'provider', 'model', 'api_key', 'cost', 'input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_write_tokens', 'reasoning_tokens'], name='step_by_use'),
        ),
        migrations.RunPython(count_unknown_costs, migrations.RunPython.noop, elidable=True),
    ]
