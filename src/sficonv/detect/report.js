// The overview of many files: sort by a column, show one kind of verdict. Without scripts all files are shown.
"use strict";

const table = document.getElementById("overview");
const body = table.tBodies[0];
const headings = [...table.querySelectorAll("th[data-key]")];
const filters = [...document.querySelectorAll("button[data-verdict]")];
const counter = document.getElementById("shown");

for (const button of document.querySelectorAll("button[hidden]")) button.hidden = false;
for (const plain of document.querySelectorAll(".without-script")) plain.hidden = true;

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === ""); // what has no value comes last
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function sort(heading) {
  const descending = heading.ariaSort === "ascending" || (!heading.ariaSort && heading.dataset.first === "descending");
  for (const other of headings) other.ariaSort = null;
  heading.ariaSort = descending ? "descending" : "ascending";
  const value = (row) => row.dataset[heading.dataset.key];
  const rows = [...body.rows].sort((a, b) => {
    const order = compare(value(a), value(b));
    return descending && value(a) !== "" && value(b) !== "" ? -order : order;
  });
  body.append(...rows);
  const sections = rows.map((row) => document.getElementById(`file-${row.dataset.number}`)).filter(Boolean);
  document.getElementById("files").append(...sections);
}

function filter(verdict) {
  for (const button of filters) button.ariaPressed = String(button.dataset.verdict === verdict);
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = verdict !== "" && row.dataset.verdict !== verdict;
    shown += !row.hidden;
    const section = document.getElementById(`file-${row.dataset.number}`);
    if (section) section.hidden = row.hidden;
  }
  counter.textContent = `${shown} of ${body.rows.length} files shown`;
}

for (const heading of headings) heading.querySelector("button").addEventListener("click", () => sort(heading));
for (const button of filters) button.addEventListener("click", () => filter(button.dataset.verdict));
