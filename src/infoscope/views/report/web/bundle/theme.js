/* made from sources 831d759d1c805a29d088ba64f0dba6501cd3e5057ee794f7c7bcc402006b7a24; licences: LICENCES.txt */
(()=>{var o="infoscope-theme";function t(){try{let e=localStorage.getItem(o);e&&(document.documentElement.dataset.theme=e)}catch{}}t();})();
