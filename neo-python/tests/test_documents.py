"""What the documents show works."""

import re
from pathlib import Path

import pytest
import ZODB
import ZODB.config

ROOT = Path(__file__).parents[2]


def snippets(document, language):
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.S)
    assert found, f"{document} has no {language}"
    return found


@pytest.mark.parametrize("document", ["README.md", "neo-python/README.md"])
def test_the_python_of_a_document_runs(document, cluster):
    for snippet in snippets(document, "python"):
        program, count = re.subn(
            r'"127\.0\.0\.1:(PORT|\d+)", "main"', f'"{cluster.masters}", "{cluster.name}"', snippet
        )
        assert count == 1
        names = {}
        exec(program, names)
        if "db" in names:
            names["db"].close()
    storage = cluster.storage()
    if document == "README.md":
        with ZODB.DB(storage).transaction() as connection:
            assert connection.root()["hello"] == "world"
    storage.close()


def test_the_configuration_of_the_package_opens_a_database(cluster):
    (snippet,) = snippets("neo-python/README.md", "xml")
    text = snippet.replace("127.0.0.1:10000", cluster.masters).replace(
        "name main", f"name {cluster.name}"
    ).replace("<zodb_db main>", "<zodb main>").replace("</zodb_db>", "</zodb>")
    database = ZODB.config.databaseFromString(text)
    assert database.storage.getName() == f"neo({cluster.name})"
    database.close()
