/* made from sources 3c1e564531961d7486b6cf1e2899940bb13191b017dbd477592bdea700b9903e; licences: LICENCES.txt */
(()=>{var o="infoscope-theme";function t(){try{let e=localStorage.getItem(o);e&&(document.documentElement.dataset.theme=e)}catch{}}t();})();
