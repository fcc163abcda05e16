// Each figure is drawn when it comes into view, since a page that draws many takes seconds to open. A report contains
// plotly; a page of the site fetches it from beside this script, for the first figure.
{
  const own = document.currentScript.src;
  const config = { displaylogo: false, responsive: true, displayModeBar: "hover" };
  let fetched;
  const plotly = () => (fetched ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve();
    const src = new URL("plotly.js", own).href;
    document.head.append(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject }));
  }));
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
      const figure = JSON.parse(target.nextElementSibling.textContent);
      plotly().then(() => Plotly.newPlot(target, wrapped(figure, target.clientWidth)));
    }
  }, { rootMargin: "200px" });
  for (const plot of document.querySelectorAll(".plot")) seen.observe(plot);
}
