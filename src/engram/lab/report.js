// Each figure is drawn when it comes into view: a page of many would take seconds to open. A report has plotly within it;
// for a page of the site it lies beside this script, and is fetched for the first figure.
{
  const own = document.currentScript.src;
  const config = { displaylogo: false, responsive: true, displayModeBar: "hover" };
  let fetched;
  const plotly = () => (fetched ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve();
    const src = new URL("plotly.js", own).href;
    document.head.append(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject }));
  }));
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const figure = JSON.parse(target.nextElementSibling.textContent);
      plotly().then(() => Plotly.newPlot(target, { ...figure, config }));
    }
  }, { rootMargin: "200px" });
  for (const plot of document.querySelectorAll(".plot")) seen.observe(plot);
}
