// What the status pages share: two languages, figures in words, and the plot of the days.
const stored = () => { try { return localStorage.getItem("language"); } catch { return null; } };
let language = stored() || ((navigator.language || "").startsWith("zh") ? "zh" : "en");
const $ = id => document.getElementById(id);
const say = key => words[language][key];
const make = (name, text, kind) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (kind) e.className = kind; return e; };
const draw = (name, with_) => { const e = document.createElementNS("http://www.w3.org/2000/svg", name); for (const k in with_) e.setAttribute(k, with_[k]); return e; };
const bytes = n => { const u = ["B", "KB", "MB", "GB", "TB", "PB"]; let i = 0; while (n >= 1000 && i < 5) { n /= 1000; i++; } return (i && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + u[i]; };
const share = (a, b) => b > 0 ? (100 * a / b).toFixed(1) + " %" : "–";
const saved = f => Math.max(0, f.traffic_out - f.traffic_in);
const count = n => n.toLocaleString(language === "zh" ? "zh-CN" : "en");

function card(value, label, kind) { const c = make("div", undefined, "card"); c.append(make("b", value, kind), make("span", label, "soft")); return c; }
function bars(days) {
  const most = Math.max(1, ...days.map(d => Math.max(d.traffic_out, d.traffic_in))), parts = [];
  days.forEach((d, i) => {
    const x = i * 60, high = n => Math.round(90 * n / most);
    const out = draw("rect", { x: x + 6, width: 26, y: 100 - high(d.traffic_out), height: high(d.traffic_out) });
    const into = draw("rect", { x: x + 34, width: 14, y: 100 - high(d.traffic_in), height: high(d.traffic_in), class: "in" });
    const title = draw("title", {}); title.textContent = d.date + ": " + bytes(d.traffic_out) + " / " + bytes(d.traffic_in); out.append(title);
    const date = draw("text", { x: x + 28, y: 118, "text-anchor": "middle" }); date.textContent = d.date.slice(5);
    parts.push(out, into, date);
  });
  $("days").replaceChildren(...parts);
  $("days").setAttribute("aria-label", say("daily"));
}
function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  $("language").textContent = language === "zh" ? "English" : "中文";
  for (const e of document.querySelectorAll("[data-say]")) e.textContent = say(e.dataset.say);
}
// `then` shows the page's own words.
function bilingual(then) {
  const turn = () => { translate(); then(); };
  $("language").onclick = () => { language = language === "zh" ? "en" : "zh"; try { localStorage.setItem("language", language); } catch { } turn(); };
  turn();
}
