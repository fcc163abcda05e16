// Each figure is drawn when it comes into view: a page of many would take seconds to open.
{
  const config = { displaylogo: false, responsive: true, displayModeBar: "hover" };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      Plotly.newPlot(target, { ...JSON.parse(target.nextElementSibling.textContent), config });
    }
  }, { rootMargin: "200px" });
  for (const plot of document.querySelectorAll(".plot")) seen.observe(plot);
}
