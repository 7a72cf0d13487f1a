"""Files from before know their task only; now they also know their conversation."""

from django.db import migrations
from django.db.models import OuterRef, Subquery


def tell(apps, schema_editor):
    task = apps.get_model("executor", "Task").objects.filter(pk=OuterRef("task_id"))
    apps.get_model("tools", "Resource").objects.filter(thread=None).update(thread=Subquery(task.values("thread")[:1]))


class Migration(migrations.Migration):

    dependencies = [
        ("conversations", "0003_memory"),
        ("executor", "0010_names_of_sub_tasks"),
        ("tools", "0004_uploads"),
    ]

    operations = [migrations.RunPython(tell, migrations.RunPython.noop)]
