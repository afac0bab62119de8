// The page: hands files in, follows the jobs, shows the answers. All text goes in as text, never as HTML.
import { drawAnswer, weakness } from "./answer.js";
import { element, duration, WORDS } from "./elements.js";

const POLL_MS = 700;
const byId = (id) => document.getElementById(id);
let health = null;
let shown = null; // the job whose answer is open
const states = new Map(); // what was announced of each job

class Refused extends Error {}

async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(`api/${path}`, { ...options, headers });
  if (answer.status === 401) {
    byId("token-form").hidden = false;
    byId("token").focus();
  }
  if (!answer.ok) throw new Refused((await answer.json().catch(() => ({}))).detail || `answer ${answer.status}`);
  return answer;
}

const json = async (path, options) => (await call(path, options)).json();

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

async function guarded(work) {
  try {
    return await work();
  } catch (error) {
    complain(error instanceof Refused ? error.message : "The service cannot be reached. Is it still running?");
    return null;
  }
}

// -- handing in -----------------------------------------------------------------------------------

async function handIn(files) {
  complain("");
  for (const file of files) {
    const form = new FormData();
    form.append("file", file);
    for (const id of ["every", "start", "end"]) if (byId(id).value) form.append(id, byId(id).value);
    if (health && file.size > health.max_upload) {
      complain(`${file.name}: larger than the limit of ${Math.round(health.max_upload / 1e6)} MB`);
      continue;
    }
    byId("announce").textContent = `${file.name}: uploading`;
    const job = await guarded(() => json("jobs", { method: "POST", body: form }).catch((error) => {
      throw error instanceof Refused ? new Refused(`${file.name}: ${error.message}`) : error;
    }));
    if (job) shown = job.id;
    await refresh();
  }
}

function wireInput() {
  const drop = byId("drop");
  byId("file").addEventListener("change", async (event) => {
    await handIn([...event.target.files]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    handIn([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) handIn([...event.clipboardData.files]);
  });
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", byId("token").value);
    byId("token-form").hidden = true;
    complain("");
    refresh();
  });
}

// -- the list of scans ------------------------------------------------------------------------------

function describe(job) {
  if (job.state === "done") return job.p_fake === null ? WORDS[job.verdict] : `${WORDS[job.verdict]}, ${job.p_fake.toFixed(2)}`;
  if (job.state === "running") {
    const left = job.remaining === null ? "" : `, about ${duration(job.remaining)} left`;
    return `${Math.round(100 * job.progress)} %${left}`;
  }
  return WORDS[job.state] || job.state;
}

function announce(job) {
  const before = states.get(job.id);
  states.set(job.id, job.state);
  if (before && before !== job.state) byId("announce").textContent = `${job.name}: ${describe(job)}`;
}

function entry(job) {
  const ended = ["done", "failed", "cancelled"].includes(job.state);
  const open = element("button", { type: "button", text: "Show", "aria-label": `Show ${job.name}` });
  open.addEventListener("click", () => show(job.id));
  const stop = element("button", { type: "button", text: ended ? "Delete" : "Cancel", "aria-label": `${ended ? "Delete" : "Cancel"} ${job.name}` });
  stop.addEventListener("click", () => guarded(async () => {
    await call(ended ? `jobs/${job.id}` : `jobs/${job.id}/cancel`, { method: ended ? "DELETE" : "POST" });
    if (ended && shown === job.id) { shown = null; byId("answer").hidden = true; }
    await refresh();
  }));
  const badge = element("span", { class: `badge ${job.state === "done" ? job.verdict : job.state}`, text: describe(job) });
  const line = element("div", { class: "row" }, [element("span", { class: "name", text: job.name }), badge, ...(job.state === "done" ? [open] : []), stop]);
  const item = element("li", { "data-job": job.id, "data-state": job.state }, [line]);
  if (!ended) item.append(element("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.name}` }));
  if (job.error && job.state !== "cancelled") item.append(element("p", { class: "small soft", text: job.error }));
  return item;
}

let drawn = "";
async function refresh() {
  const jobs = await guarded(() => json("jobs"));
  if (!jobs) return;
  jobs.forEach(announce);
  const now = JSON.stringify(jobs);
  if (now !== drawn) {
    drawn = now;
    const focused = document.activeElement?.getAttribute("aria-label");
    byId("history").replaceChildren(...jobs.map(entry));
    if (focused) [...byId("history").querySelectorAll("button")].find((b) => b.getAttribute("aria-label") === focused)?.focus();
    byId("empty").hidden = jobs.length > 0;
  }
  const open = jobs.find((job) => job.id === shown);
  if (open && open.state === "done" && byId("answer").dataset.job !== shown) await show(shown);
  return jobs;
}

async function show(id) {
  shown = id;
  const job = await guarded(() => json(`jobs/${id}`));
  if (!job || !job.result) return;
  const report = element("button", { type: "button", text: "Download the report" });
  report.addEventListener("click", () => guarded(async () => {
    const link = element("a", { href: URL.createObjectURL(await (await call(`jobs/${id}/report`)).blob()), download: "sficonv-report.html" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }));
  const answer = byId("answer");
  answer.replaceChildren(...drawAnswer(job, health.detector), element("p", {}, [report]));
  answer.dataset.job = id;
  answer.hidden = false;
  answer.focus();
}

async function follow() {
  const jobs = await refresh();
  const busy = jobs?.some((job) => job.state === "waiting" || job.state === "running");
  setTimeout(follow, busy ? POLL_MS : 5 * POLL_MS);
}

async function begin() {
  wireInput();
  health = await guarded(() => json("health"));
  if (!health) { setTimeout(() => location.reload(), 5000); return; }
  byId("service").textContent = `Detector: ${health.detector.name}, sficonv ${health.version}.`;
  byId("allowed").textContent = `Images and videos up to ${Math.round(health.max_upload / 1e6)} MB.`;
  byId("kept").textContent = `Uploaded files are deleted once judged, results after ${health.keep_hours} hours.`;
  byId("weakness").replaceChildren(...weakness(health.detector));
  byId("limits").replaceChildren(...health.detector.limits.filter((text) => text !== health.detector.weakness).map((text) => element("li", { text })));
  if (health.token_needed && !sessionStorage.getItem("token")) {
    byId("token-form").hidden = false;
    byId("token").focus();
    await new Promise((done) => byId("token-form").addEventListener("submit", done, { once: true }));
  }
  follow();
}

begin();
