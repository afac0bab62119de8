// One answer: verdict, reasons for caution, scores over time, people, faces, attention.
import { clock, element, svg, WORDS } from "./elements.js";

const LINES = 6;
const STEPS = [0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

export function drawAnswer(job, detector) {
  const { result, pictures } = job;
  const parts = [
    element("div", { class: "top" }, [
      element("h2", { id: "answer-title", text: job.name }),
      element("span", { class: `badge ${result.verdict}`, text: WORDS[result.verdict] }),
    ]),
  ];
  if (result.p_fake !== null) {
    const number = element("p", { class: "number" }, [element("small", { text: "P(fake)" }), result.p_fake.toFixed(2)]);
    parts.push(element("div", { class: "answer-line" }, [number, gauge(result.p_fake, detector)]));
  } else if (result.verdict === "no_face") {
    parts.push(element("p", { text: `There is no face in ${result.kind === "video" ? "the sampled frames" : "this image"}, so there is nothing to judge. This says nothing about whether the ${result.kind} is genuine.` }));
  }
  if (result.p_fake !== null) parts.push(element("div", { class: "doubt weakness", role: "note" }, weakness(detector)));
  if (result.error) parts.push(element("p", { class: "doubt error", text: result.error }));
  if (result.notes.length) {
    const list = element("ul", {}, result.notes.map((text) => element("li", { text })));
    parts.push(element("div", { class: "doubt", role: "note" }, [element("b", { text: "Reasons for caution" }), list]));
  }
  if (result.kind === "video" && result.faces.length) parts.push(element("h3", { text: "Score over time" }), chart(result, detector), people(result));
  if (pictures.length) parts.push(element("h3", { text: pictures.length > 1 ? "The strongest faces" : "The face" }), faces(result, pictures));
  if (pictures.length && pictures[0].attention) parts.push(element("h3", { text: "Where the detector looked" }), attention(pictures[0]));
  return parts;
}

export function weakness({ weakness: stated }) {
  return [element("b", { text: "Known weakness of this detector. " }), stated || "Its model card states none. That does not mean that it has none."];
}

function gauge(p, { low, high }) {
  const zone = (kind, from, to) => svg("rect", { class: `zone ${kind}`, x: 400 * from, y: 20, width: 400 * (to - from), height: 12 });
  const text = (x, words, anchor = "middle") => svg("text", { x, y: 52, "text-anchor": anchor, text: words });
  return svg("svg", { class: "gauge", viewBox: "0 0 400 58", role: "img", "aria-label": `P(fake) ${p.toFixed(2)} on a scale from 0 to 1; undecided between ${low.toFixed(2)} and ${high.toFixed(2)}` }, [
    zone("real", 0, low), zone("uncertain", low, high), zone("fake", high, 1),
    svg("path", { class: "needle", d: `M${400 * p} 34l-7-26h14Z` }),
    // names keep clear of the numbers where a zone is narrow
    text(0, "0", "start"), text(Math.max(200 * low, 30), "real"), text(200 * (low + high), "undecided"), text(Math.min(200 * (high + 1), 362), "forged"), text(400, "1", "end"),
  ]);
}

function chart(result, { low, high }) {
  const end = Math.max(result.duration || 0, result.faces.at(-1).time) || 1;
  const x = (time) => 640 * Math.min(1, time / end);
  const y = (p) => 180 * (1 - p);
  const step = STEPS.find((s) => end / s <= 8) || end / 8;
  const parts = [svg("rect", { class: "band", x: 0, y: y(high), width: 640, height: y(low) - y(high) })];
  for (const p of [0, 0.5, 1]) parts.push(svg("line", { class: "grid", x1: 0, x2: 640, y1: y(p), y2: y(p) }), svg("text", { x: -8, y: y(p) + 4, "text-anchor": "end", text: String(p) }));
  for (let time = 0; time <= end + 1e-6; time += step) parts.push(svg("line", { class: "grid", x1: x(time), x2: x(time), y1: 180, y2: 185 }), svg("text", { x: x(time), y: 200, "text-anchor": "middle", text: clock(time) }));
  result.tracks.slice(0, LINES).forEach((track, rank) => {
    const seen = result.faces.filter((face) => face.track === track.track);
    parts.push(svg("polyline", { class: `s${rank + 1}`, points: seen.map((f) => `${x(f.time).toFixed(1)},${y(f.p_fake).toFixed(1)}`).join(" ") }));
    for (const face of seen) {
      const dot = svg("circle", { class: `f${rank + 1}`, cx: x(face.time), cy: y(face.p_fake), r: seen.length < 60 ? 3 : 1.5 });
      dot.append(svg("title", { text: `person ${rank + 1} at ${clock(face.time)}: ${face.p_fake.toFixed(2)}` }));
      parts.push(dot);
    }
    const last = seen.at(-1);
    parts.push(svg("text", { class: `label f${rank + 1}`, x: x(last.time) + 8, y: y(last.p_fake) + 4, text: `person ${rank + 1}` }));
  });
  return svg("svg", { class: "chart", viewBox: "-34 -14 760 224", role: "img", "aria-label": "P(fake) of each person over the length of the video; the table below holds each person's score" }, parts);
}

function people(result) {
  const head = element("tr", {}, ["Person", "P(fake)", "Frames", "Seen", "Counts towards the verdict"].map((text) => element("th", { scope: "col", text })));
  const rows = result.tracks.slice(0, 20).map((track, rank) => element("tr", {}, [
    element("th", { scope: "row", text: `Person ${rank + 1}` }),
    element("td", { text: track.p_fake.toFixed(2) }),
    element("td", { text: track.frames }),
    element("td", { text: `${clock(track.first)} to ${clock(track.last)}` }),
    element("td", { text: track.decides ? (rank ? "yes" : "yes, decides") : "no: seen too briefly, too small, too blurred, or not surely a face" }),
  ]));
  return element("table", {}, [element("thead", {}, [head]), element("tbody", {}, rows)]);
}

function faces(result, pictures) {
  const person = new Map(result.tracks.map((track, rank) => [track.track, rank + 1]));
  return element("div", { class: "faces" }, pictures.map(({ face: number, image }) => {
    const face = result.faces[number];
    const when = result.kind === "video" ? ` at ${clock(face.time)}` : "";
    return element("figure", {}, [
      element("img", { src: image, alt: `Face of person ${person.get(face.track)}${when}` }),
      element("figcaption", {}, [element("b", { text: face.p_fake.toFixed(2) }), when, element("br"), `person ${person.get(face.track)}`]),
    ]);
  }));
}

function attention(picture) {
  const parts = [
    element("figure", {}, [element("img", { src: picture.image, alt: "The face as judged" }), element("figcaption", { text: "the face as judged" })]),
    element("figure", {}, [element("img", { src: picture.attention, alt: "The same face with the pixels that moved the score most highlighted" }), element("figcaption", { text: "red moves the score most" })]),
  ];
  const shares = Object.entries(picture.regions || {});
  if (shares.length) {
    const rows = shares.map(([region, share]) => element("tr", {}, [element("th", { scope: "row", text: region }), element("td", { class: "n", text: `${Math.round(100 * share)} %` })]));
    parts.push(element("table", { class: "regions" }, [element("caption", { text: "Share of the attention by region" }), element("tbody", {}, rows)]));
  }
  parts.push(element("p", { class: "small soft", text: "The map shows which pixels the score of this face is most sensitive to. It shows what the model reacts to; it does not outline a manipulation." }));
  return element("div", { class: "look" }, parts);
}
