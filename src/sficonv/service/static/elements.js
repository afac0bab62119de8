// Small builders. Attributes and text only: nothing is ever parsed as HTML.
const SVG = "http://www.w3.org/2000/svg";

export const WORDS = {
  fake: "Likely forged", real: "No sign of forgery", uncertain: "Undecided", no_face: "No face found",
  error: "Could not be judged", waiting: "Waiting", failed: "Failed", cancelled: "Cancelled",
};

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const element = (tag, attributes = {}, children = []) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, children = []) => build(document.createElementNS(SVG, tag), attributes, children);

export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(tenths % 10 ? 1 : 0).padStart(tenths % 10 ? 4 : 2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
