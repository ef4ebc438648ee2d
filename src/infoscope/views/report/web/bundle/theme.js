/* made from sources 3f8b4c9dabbbfe4ee89611190be191c1750a1857e19433481c377975185ffd61; licences: LICENCES.txt */
(()=>{var o="infoscope-theme";function t(){try{let e=localStorage.getItem(o);e&&(document.documentElement.dataset.theme=e)}catch{}}t();})();
