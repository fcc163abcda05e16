// Each figure is drawn when it comes into view, since a page that draws many takes seconds to open. A report contains
// plotly and its figures; a page of the site fetches plotly from beside this script, and each figure from its file. Both
// are scripts, because a page that was opened from a file may fetch nothing else.
{
  const own = document.currentScript.src;
  const config = { displaylogo: false, responsive: true, displayModeBar: "hover" };
  const script = (src) => new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src, onerror: reject });
    element.onload = () => resolve(element);
    document.head.append(element);
  });
  let fetched;
  const plotly = () => (fetched ??= window.Plotly ? Promise.resolve() : script(new URL("plotly.js", own).href));
  const unpacked = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };
  const content = async ({ dataset, nextElementSibling }) =>
    dataset.figure ? unpacked((await script(dataset.figure)).figure) : JSON.parse(nextElementSibling.textContent);
  const letter = 8; // pixels of panel width for each letter of a title: 6.5, and room for the axes
  const wrapped = ({ data, layout }, width) => {
    const titles = (layout.annotations ?? []).filter(({ showarrow, yref }) => showarrow === false && yref === "paper");
    const columns = new Set(titles.map(({ x }) => x)).size || 1;
    const most = Math.max(10, Math.floor(width / columns / letter));
    const line = new RegExp(`(?!.{1,${most}}$)(.{1,${most}})\\s`, "g");
    for (const title of titles) title.text = title.text.replace(line, "$1<br>");
    return { data, layout, config };
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      Promise.all([content(target), plotly()])
        .then(([figure]) => Plotly.newPlot(target, wrapped(figure, target.clientWidth)));
    }
  }, { rootMargin: "200px" });
  for (const plot of document.querySelectorAll(".plot")) seen.observe(plot);
  // A link to a claim opens what it is folded into.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
}
