"""Zope on a cluster, seen in a browser: run by `cargo xtask zope`.

    run.py DIRECTORY

The directory must not be there; databases, logs and pictures of the pages are left in it. The
environment tells by NEO_BIN where the programs of neo are.
"""

import contextlib
import sys
from pathlib import Path

from browser import Browser
from processes import Cluster, Zope

USER, PASSWORD = "admin", "secret"


class Story:
    """What was shown so far."""

    def __init__(self):
        self.shown = 0

    def shows(self, what, holds, saw=""):
        if not holds:
            raise AssertionError(f"{what}: no. Instead: {saw}")
        self.shown += 1
        print(f"ok {what}", flush=True)


def edits(story, browser, one, two):
    """An object is made, changed, looked back at, and changed back."""
    browser.log_in(one.url, USER, PASSWORD)
    browser.picture("logged in")
    story.shows("the management interface shows the root", "Root Folder" in browser.text(),
                browser.text())
    browser.add_page_template(one.url, "page")
    page = f"{one.url}/page"
    story.shows("a Page Template is added", "page" in browser.look(f"{one.url}/manage_main"))
    browser.picture("added")
    for words in ("first words", "second words"):
        browser.write(page, words)
        story.shows(f"the edit is saved: {words}", "Saved changes" in browser.text(),
                    browser.text())
        sees(story, words, one, two)
    browser.picture("edited")
    told = browser.history(page)
    browser.picture("history")
    story.shows("the history has the revisions, newest first",
                [user for user, _ in told] == [USER] * 3
                and all("/page" in words for _, words in told[:2]), told)
    told = browser.compare(0, 1)
    browser.picture("comparison")
    story.shows("two revisions are compared", "first words" in told and "second words" in told,
                told)
    told = browser.undo(one.url, "/page/pt_editAction")
    browser.picture("undone")
    story.shows("the undo is the newest transaction", "Undo /page/pt_editAction" in told, told)
    sees(story, "first words", one, two)
    told = browser.history(page)
    story.shows("the history has the undo", len(told) == 4 and "Undo" in told[0][1], told)


def goes_back(story, browser, one, two):
    """An old revision becomes the present one; an object is deleted, and is there again."""
    browser.history(f"{one.url}/page")
    browser.copy_to_present(1)
    text = browser.one("#editor .ace_content").text
    story.shows("an old revision is the present one", text == "second words", text)
    # Zope itself goes on to show what it had compiled, in the process where this was done.
    sees(story, "second words", two)
    browser.delete(one.url, "page")
    story.shows("the object is deleted in both", {one.text("/page"), two.text("/page")} == {"404"})
    browser.log_in(two.url, USER, PASSWORD)
    browser.undo(two.url, "/manage_delObjects")
    browser.picture("deletion undone")
    story.shows("the object is there in both again",
                "404" not in (one.text("/page"), two.text("/page")))
    sees(story, "second words", two)


def sees(story, words, *zopes):
    for zope in zopes:
        text = zope.text("/page")
        story.shows(f"process {zope.name} shows {words!r}", text is not None
                    and text.strip() == words, text)


def both_ways(story, browser, one, two):
    """Each process sees what the other did."""
    browser.write(f"{two.url}/page", "from the other")
    sees(story, "from the other", one, two)
    shown = browser.look(f"{one.url}/page")
    story.shows("the browser sees it in the first", shown == "from the other", shown)


def losses(story, browser, cluster, one, two):
    """Storage nodes are killed, and everything goes on."""
    killed = cluster.kill_storage(1)
    goes_on(story, browser, one, (one, two), "storage 1 killed")
    cluster.until_whole(1, killed)
    story.shows("storage 1 was killed, came back and has everything", True)
    cluster.kill_storage_for_good(2)
    story.shows("storage 2 is lost", not cluster.is_whole(), cluster.told("print", "pt"))
    goes_on(story, browser, two, (one, two), "storage 2 lost")
    told = browser.undo(one.url, "/page/pt_editAction")
    story.shows("what was written meanwhile is undone", "Undo /page/pt_editAction" in told, told)
    sees(story, "storage 2 lost edit 1", one, two)


def goes_on(story, browser, zope, zopes, words):
    for n in range(3):
        browser.write(f"{zope.url}/page", f"{words} edit {n}")
        sees(story, f"{words} edit {n}", *zopes)
    browser.picture(words)


def restart(story, browser, cluster, one, two):
    """All of it ends, and starts again."""
    before = browser.history(f"{one.url}/page")
    for process in (one, two, cluster):
        process.stop()
    story.shows("everything is stopped", one.text("/page") is None)
    cluster.start()
    for zope in (two, one):
        zope.use(cluster.masters)
        zope.start()
    sees(story, "storage 2 lost edit 1", one, two)
    after = browser.history(f"{one.url}/page")
    browser.picture("history after a restart")
    story.shows("the history is as it was", after == before and len(after) == 13, after)
    browser.write(f"{two.url}/page", "after all")
    sees(story, "after all", one, two)
    cluster.until_up_to_date()
    story.shows("storage 2 is back and has everything", True)
    shown = browser.look(f"{one.url}/Control_Panel/Database/main/manage_main")
    browser.picture("database")
    story.shows("the control panel tells of the database", "neo(zope)" in shown, shown)


def packs(story, browser, cluster, one, two):
    """The past is removed, at a button's press, whatever becomes of a node meanwhile."""
    page = f"{one.url}/page"
    before = browser.history(page)
    told = browser.pack(one.url, 1)
    story.shows("what is younger than a day stays",
                "packed to 1.0 days" in told and browser.history(page) == before, told)
    killed = cluster.kill_storage(1)
    told = browser.pack(one.url, 0)
    browser.picture("packed")
    story.shows("the database is packed", "packed to 0.0 days" in told, told)
    cluster.until_whole(1, killed)
    cluster.until_packed()
    for zope in (one, two):
        told = browser.history(f"{zope.url}/page")
        story.shows(f"the history has one revision left in process {zope.name}",
                    told == before[:1], told)
    rows = browser.undoable(two.url)
    browser.picture("nothing to undo")
    story.shows("nothing is left to undo", not rows, browser.text())
    sees(story, "after all", one, two)
    browser.write(page, "after the pack")
    sees(story, "after the pack", one, two)
    told = browser.undo(two.url, "/page/pt_editAction")
    story.shows("what is written after a pack is undone", "Undo /page/pt_editAction" in told, told)
    sees(story, "after all", two)


def main(directory):
    directory = Path(directory).resolve()
    directory.mkdir(parents=True)
    story = Story()
    with contextlib.ExitStack() as ended:
        cluster = Cluster("neo", directory)
        ended.callback(cluster.stop)
        cluster.start()
        zopes = one, two = [Zope(name, directory, USER, PASSWORD) for name in ("one", "two")]
        for zope in zopes:
            zope.use(cluster.masters)
            ended.callback(zope.stop)
            zope.start()
        story.shows("two Zopes run on a cluster of processes", True)
        browser = Browser(directory / "pictures")
        ended.callback(browser.close)
        try:
            edits(story, browser, one, two)
            goes_back(story, browser, one, two)
            both_ways(story, browser, one, two)
            losses(story, browser, cluster, one, two)
            restart(story, browser, cluster, one, two)
            packs(story, browser, cluster, one, two)
        except BaseException:
            browser.picture("failure")
            raise
        for zope in zopes:
            story.shows(f"the log of {zope.name} has no error", not zope.complaints(),
                        zope.complaints())
    print(f"zope: {story.shown} checks passed; pictures and logs are in {directory}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
