"""The first table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Orders."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("article", models.CharField(max_length=200)),
                ("pieces", models.PositiveIntegerField()),
                ("receipt_job", models.BigIntegerField(null=True)),
                ("receipt", models.TextField(null=True)),
            ],
        ),
    ]
