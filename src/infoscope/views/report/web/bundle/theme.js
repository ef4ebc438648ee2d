/* made from sources 8462171fc40c6a79eeb88c6160e5f3c7781b50889512a3cde267222744fb406b; licences: LICENCES.txt */
(()=>{var o="infoscope-theme";function t(){try{let e=localStorage.getItem(o);e&&(document.documentElement.dataset.theme=e)}catch{}}t();})();
