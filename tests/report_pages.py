"""The page of a report as its parser sees it, for the report's tests."""

import html.parser
import json

from denograd_jax.report import write_report

EVIL = '</script><script>alert("1")</script><!--<script>\u2028\0'


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text of each table row and script, and all other text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.table_rows, self.scripts, self.text = [], [], [], ""
        self._cell, self._within = False, None
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.text += " "
        self._within = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.table_rows.append([])
        if tag in ("td", "th"):
            self.table_rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._within = None
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.text += data
        if self._cell:
            self.table_rows[-1][-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    def row(self, label):
        return next(row for row in self.table_rows if row[0] == label)

    def script(self, **attributes):
        """The text of the first script element with these attributes."""
        scripts = [given for tag, given in self.tags if tag == "script"]
        return self.scripts[scripts.index(attributes)]

    @property
    def data(self):
        """What the explorer reads."""
        return json.loads(self.script(type="application/json", id="explorer-data"))

    @property
    def heading_ids(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "h2"]

    @property
    def sentences(self):
        return " ".join(self.text.split())


def written(refinement, folder):
    path = folder / "report.html"
    write_report(refinement, path)
    return path.read_text("utf-8")
