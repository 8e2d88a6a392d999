"""A browser in front of Zope's management interface."""

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

SECONDS = 60


class Browser:
    """A Chromium of Debian without a screen. Each page that it is told to look at is kept."""

    def __init__(self, directory):
        self.directory, self.pictures = directory, 0
        directory.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                       "--window-size=1200,900", f"--user-data-dir={directory / 'profile'}"):
            options.add_argument(option)
        service = webdriver.ChromeService("/usr/bin/chromedriver")
        self.driver = webdriver.Chrome(options, service)

    def close(self):
        self.driver.quit()

    def picture(self, name):
        self.pictures += 1
        self.driver.save_screenshot(str(self.directory / f"{self.pictures:02} {name}.png"))

    def look(self, url):
        self.driver.get(url)
        return self.text()

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def one(self, selector):
        """The element that shows up."""
        return WebDriverWait(self.driver, SECONDS).until(
            lambda driver: next(
                (e for e in driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()),
                None,
            ),
            f"no {selector} in {self.driver.current_url}",
        )

    def submit(self, selector):
        """Presses a button, and waits for another page."""
        button = self.one(selector)
        button.click()
        WebDriverWait(self.driver, SECONDS).until(
            lambda driver: gone(button), f"{selector} leads nowhere"
        )

    def tab(self, label):
        """Goes to a tab of an object."""
        link = self.driver.find_element(By.LINK_TEXT, label)
        link.click()
        WebDriverWait(self.driver, SECONDS).until(lambda driver: gone(link))

    def log_in(self, url, user, password):
        """The browser remembers it for the site."""
        self.driver.get(url.replace("://", f"://{user}:{password}@") + "/manage_main")

    def add_page_template(self, url, name):
        self.driver.get(f"{url}/manage_main")
        kinds = Select(self.one("select#addItemSelect, select[onchange*=addItem]"))
        kinds.select_by_visible_text("Page Template")
        self.one("#zmi-modal input[name=id], form.zmi-add input[name=id]").send_keys(name)
        self.picture(f"add {name}")
        self.submit("input[type=submit][value='Add and Edit']")

    def write(self, url, text):
        """Replaces the text of a page template in its editor."""
        self.driver.get(f"{url}/pt_editForm")
        self.one("#editor .ace_content").click()
        typing = ActionChains(self.driver)
        typing.key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL)
        typing.send_keys(Keys.DELETE).send_keys(text).perform()
        self.submit("input[name='pt_editAction:method']")

    def history(self, url):
        """The revisions that the tab shows, newest first: (user, description)."""
        self.driver.get(f"{url}/pt_editForm")
        self.tab("History")
        rows = self.driver.find_elements(By.CSS_SELECTOR, "table.table tr:not(.zmi-table-head)")
        return [tuple(cell.text for cell in row.find_elements(By.TAG_NAME, "td")[2:4])
                for row in rows]

    def compare(self, *numbers):
        """What the history page, which is open, tells of the difference of two revisions."""
        boxes = self.driver.find_elements(By.NAME, "keys:list")
        for number in numbers:
            boxes[number].click()
        self.submit("input[value=Compare]")
        return self.text()

    def copy_to_present(self, number):
        """Makes a revision of the history page, which is open, the present one."""
        self.driver.find_elements(By.NAME, "keys:list")[number].click()
        self.submit("input[value='Copy to present']")

    def delete(self, url, name):
        """Deletes an object of a folder."""
        self.driver.get(f"{url}/manage_main")
        self.driver.find_element(By.CSS_SELECTOR, f"input[name='ids:list'][value={name}]").click()
        self.submit("input[name='manage_delObjects:method']")

    def database(self, url):
        self.driver.get(f"{url}/Control_Panel/Database/main/manage_main")

    def pack(self, url, days):
        """Packs the database as of some days ago; what the page says then."""
        self.database(url)
        field = self.one("input[name='days:float']")
        field.clear()
        field.send_keys(str(days))
        self.submit("input#pack")
        return self.text()

    def undoable(self, url):
        """The rows of the database's tab of what can be undone."""
        self.database(url)
        self.tab("Undo")
        return self.driver.find_elements(By.CSS_SELECTOR, "table tbody tr")

    def undo(self, url, words):
        """Undoes the newest transaction that is described so; what is the newest one then."""
        rows = self.undoable(url)
        row = next((row for row in rows if words in row.text), None)
        if row is None:
            raise AssertionError(f"nothing to undo is called {words!r}: {self.text()}")
        row.find_element(By.TAG_NAME, "input").click()
        self.picture(f"undo {words.rpartition('/')[2]}")
        self.submit("input[value=' Undo ']")
        return self.one("table tbody tr").text


def gone(element):
    """Whether the page of an element was left."""
    try:
        element.is_enabled()
        return False
    except Exception:
        return True
